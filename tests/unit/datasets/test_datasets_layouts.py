"""What every layout owes its caller, and what each says of its pictures."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import dataset_files as files
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from modgap.datasets import KINDS, Collection, Item, open_collection
from modgap.encode import as_rgb


def every(found: Collection) -> list[Item]:
    return list(found.items(0, len(found)))


def pixels(item: Item) -> np.ndarray:
    return np.asarray(as_rgb(item.image))


@pytest.mark.parametrize("kind", files.LAYOUTS)
def test_every_layout_is_told_counted_and_read_in_any_ranges(kind: str, tmp_path: Path) -> None:
    write, count = files.LAYOUTS[kind]
    path = write(tmp_path / "one")
    found = open_collection(path)
    assert (found.kind, len(found)) == (kind, count)
    whole = every(found)
    assert len({item.key for item in whole}) == count
    for cut in (1, count // 2, count - 1):
        assert [*found.items(0, cut), *found.items(cut, count)] == whole
    assert list(found.items(count, count)) == []
    side = 32 if kind.startswith("cifar") else 6
    assert all(pixels(item).shape == (side, side, 3) for item in whole)
    labels = [item.label for item in whole if item.label is not None]
    if found.classes is not None:
        assert labels
        assert all(0 <= label < len(found.classes) for label in labels)
    assert found.choices == (kind == "aokvqa")
    assert every(open_collection(f"{kind}:{path}")) == whole


def test_every_layout_has_a_test() -> None:
    assert set(files.LAYOUTS) == set(KINDS)


@pytest.mark.parametrize("kind", files.LAYOUTS)
def test_a_digest_is_the_same_anywhere_and_sees_every_file(kind: str, tmp_path: Path) -> None:
    write, _ = files.LAYOUTS[kind]
    path = write(tmp_path / "one")
    digest = open_collection(path).digest()
    shutil.copytree(tmp_path / "one", tmp_path / "other")
    moved = tmp_path / "other" / path.relative_to(tmp_path / "one")
    assert open_collection(moved).digest() == digest
    seen = 0
    for file in sorted(p for p in (tmp_path / "other").rglob("*") if p.is_file()):
        old = file.read_bytes()
        if file.suffix in (".tar", ".parquet") or old.startswith(b"\x89PNG"):
            # a changed picture within the file: its bytes, not its length
            place = old.index(b"\x89PNG") + 40
            file.write_bytes(old[:place] + bytes([old[place] ^ 1]) + old[place + 1 :])
        elif file.name == "test_batch.bin" or (kind == "cifar100" and file.name == "test.bin"):
            file.write_bytes(old[:5] + bytes([old[5] ^ 1]) + old[6:])
        elif kind in ("coco", "flickr", "karpathy", "aokvqa") and file == moved:
            last = old.rindex(b"o")
            changed = old.replace(b"caption 1 of 2", b"caption 1 or 2").replace(b"bear", b"hare")
            changed = changed.replace(b"sentence 1 of 2", b"sentence 1 or 2").replace(
                b"What", b"Whom"
            )
            assert changed != old, last
            file.write_bytes(changed)
        elif file.name == "LOC_synset_mapping.txt":
            file.write_bytes(old.replace(b"tench", b"trench"))
        else:
            continue
        seen += open_collection(moved).digest() != digest
        file.write_bytes(old)
    assert seen >= 1
    expected = {"folder": 5, "imagenet": 3, "webdataset": 2, "parquet": 2, "coco": 4, "flickr": 4,
                "karpathy": 3, "aokvqa": 3, "cifar10": 1, "cifar100": 1}  # fmt: skip
    assert seen == expected[kind]


def test_a_folder_has_the_classes_of_its_first_folders(tmp_path: Path) -> None:
    found = open_collection(files.folder(tmp_path))
    assert found.classes == ("ant", "cat", "dog")
    named = [(item.key, item.label) for item in every(found)]
    assert named == [
        ("ant/é.png", 0), ("cat/a.png", 1), ("cat/b.png", 1), ("dog/2.png", 2), ("dog/x/1.png", 2),
    ]  # fmt: skip
    files.put(tmp_path / "loose.png", files.png(1))
    assert open_collection(tmp_path).classes is None


def test_a_folder_passes_over_what_is_known_to_be_no_picture_and_nothing_else(
    tmp_path: Path,
) -> None:
    for name in ("a.png", "notes.txt", "meta.JSON", ".hidden.png", "Thumbs.db", "__MACOSX/._a.png"):
        files.put(tmp_path / name, files.png(0))
    files.put(tmp_path / "broken.jpg", "no picture")
    files.put(tmp_path / "without_suffix", files.png(1))
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "itself.png").symlink_to(tmp_path / "itself.png")
    found = open_collection(tmp_path)
    assert [item.key for item in every(found)] == [
        "a.png",
        "broken.jpg",
        "gone.png",
        "itself.png",
        "without_suffix",
    ]
    assert found.skipped == {".db": 1, ".json": 1, ".txt": 1}  # type: ignore[attr-defined]
    assert np.array_equal(pixels(every(found)[4]), files.picture(1))
    assert len(found.digest()) == 64


def test_texts_beside_pictures_are_captions(tmp_path: Path) -> None:
    files.captioned(tmp_path / "00000")
    files.captioned(tmp_path / "00001")
    found = open_collection(tmp_path)
    assert (len(found), found.classes) == (6, None)
    assert every(found)[4].texts == ("a caption of 1", "another of 1")


def test_imagenet_names_its_synsets(tmp_path: Path) -> None:
    train = open_collection(files.imagenet(tmp_path))
    assert train.classes == ("tench", "goldfish")
    assert [item.label for item in every(train)] == [0, 1]
    flat = tmp_path / "ILSVRC/Data/CLS-LOC/val"
    val = open_collection(f"imagenet:{flat}")
    assert val.classes == ("tench", "goldfish", "great white shark")
    assert [item.label for item in every(val)] == [2, 0]
    for name, text in (
        ("words.txt", "n01440764\ttench, Tinca tinca\nn01443537\tgold fish\nn99999999\tentity\n"),
        (
            "imagenet_class_index.json",
            '{"0": ["n01440764", "tench"], "1": ["n01443537", "gold_fish"]}',
        ),
        ("Labels.json", '{"n01440764": "tench, Tinca", "n01443537": "gold fish, x"}'),
    ):
        names = files.put(tmp_path / "other" / name, text)
        found = open_collection(tmp_path / "ILSVRC/Data/CLS-LOC/train", names=names)
        assert found.classes == ("tench", "gold fish"), name


def test_cifar_gives_its_pixels_and_labels(tmp_path: Path) -> None:
    path = files.cifar10(tmp_path / "c10")
    test, train = (
        every(open_collection(path)),
        every(open_collection(f"cifar10:{path}?split=train")),
    )
    assert [item.key for item in test] == ["test_batch/0", "test_batch/1", "test_batch/2"]
    assert [item.label for item in test] == [6, 7, 8]
    assert np.array_equal(pixels(test[2]), files.picture(62, 32))
    assert len(train) == 15
    assert np.array_equal(pixels(train[4]), files.picture(21, 32))
    assert open_collection(path).classes == tuple(files.CIFAR_NAMES)
    assert every(open_collection(path / "test_batch.bin")) == test
    hundred = files.cifar100(tmp_path / "c100")
    fine, coarse = open_collection(hundred), open_collection(hundred, label="coarse")
    assert [item.label for item in every(fine)] == [97, 98, 99]
    assert [item.label for item in every(coarse)] == [0, 1, 2]
    assert fine.classes == tuple(f"fine {i}" for i in range(100))
    assert coarse.classes == tuple(f"coarse {i}" for i in range(20))
    assert fine.digest() != coarse.digest()
    assert np.array_equal(pixels(every(coarse)[1]), files.picture(1, 32))


def test_a_tar_gives_its_parts_by_their_names(tmp_path: Path) -> None:
    path = files.tar(
        tmp_path / "one.tar",
        [
            ("./x/0.1.seg.png", b"passed over"),
            ("./x/0.jpg", files.png(3)),
            ("./x/0.cls", b"7\n"),
            ("./x/0.json", b'{"caption": "in json", "label": 3}'),
            ("./x/.DS_Store", b"litter"),
            ("lonely.txt", b"no picture"),
            ("a/" + "long" * 40 + ".PNG", files.png(4)),
        ],
    )
    first, lonely, last = every(open_collection(path))
    assert (first.key, first.texts, first.label) == ("x/0", ("in json",), 7)
    assert np.array_equal(pixels(first), files.picture(3))
    assert (lonely.key, lonely.image, lonely.texts) == ("lonely", b"", ("no picture",))
    assert last.key == "a/" + "long" * 40
    assert np.array_equal(pixels(last), files.picture(4))
    several = [item.key for item in every(open_collection(files.webdataset(tmp_path / "many")))]
    assert several[2:4] == ["00000/000000002", "00001/000010000"]


def test_a_tar_of_the_system_tool_is_read(tmp_path: Path) -> None:
    for i in range(3):
        files.put(tmp_path / f"in/{i}.png", files.png(i))
    done = subprocess.run(["tar", "cf", "all.tar", "-C", "in", "."], cwd=tmp_path, check=False)
    if done.returncode:
        pytest.skip("no tar on this machine")
    found = {item.key: item for item in every(open_collection(tmp_path / "all.tar"))}
    assert sorted(found) == ["0", "1", "2"]
    assert np.array_equal(pixels(found["2"]), files.picture(2))


def test_parquet_takes_usual_or_given_columns(tmp_path: Path) -> None:
    found = open_collection(files.parquet(tmp_path / "hub"))
    items = every(found)
    assert found.classes == ("cat", "dog", "ant")
    assert (items[70].key, items[70].texts, items[70].label) == ("70", ("1 0", "again"), 0)
    assert np.array_equal(pixels(items[40]), files.picture(40))
    table = pa.table(
        {
            "front": [files.png(0), None],
            "back": [files.png(1), b""],
            "title": ["one", None],
            "number": [4, -1],
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    chosen = open_collection(
        f"parquet:{tmp_path / 't.parquet'}?image=back&text=title", label="number"
    )
    assert [(i.texts, i.label) for i in every(chosen)] == [(("one",), 4), ((), None)]
    assert np.array_equal(pixels(every(chosen)[0]), files.picture(1))
    other = open_collection(f"parquet:{tmp_path / 't.parquet'}?image=front")
    assert every(other)[1].image == b""
    assert other.digest() != chosen.digest()


def test_cifar_of_real_pictures_is_read(real_data: Any) -> None:
    found = open_collection(real_data.path("cifar10_images", "test.parquet"))
    assert len(found) == 10_000
    items = list(found.items(5_000, 5_040))
    assert pixels(items[39]).shape == (32, 32, 3)
    assert [item.label for item in items[:3]] == [0, 1, 2]


def test_captions_belong_to_their_pictures(tmp_path: Path) -> None:
    coco = every(open_collection(files.coco(tmp_path / "coco")))
    assert [(item.key, item.texts) for item in coco] == [
        ("139", ("a room",)), ("285", ("a bear", "a big bear")), ("632", ()),
    ]  # fmt: skip
    assert np.array_equal(pixels(coco[1]), files.picture(1))
    flickr = files.flickr(tmp_path / "flickr")
    only = tmp_path / "flickr/Flickr_8k.testImages.txt"
    assert [item.key for item in every(open_collection(flickr, only=only))] == [
        "2_a.jpg",
        "0_a.jpg",
    ]
    whole = every(open_collection(flickr))
    assert whole[1].texts == ("caption 0 of 1 .", "caption 1 of 1 .")
    test = every(open_collection(files.karpathy(tmp_path / "split")))
    assert [(item.key, item.texts[1]) for item in test] == [
        ("val2014/1.jpg", "sentence 1 of 1"), ("val2014/2.jpg", "sentence 1 of 2"),
    ]  # fmt: skip
    train = open_collection(f"karpathy:{tmp_path / 'split/dataset_coco.json'}?split=train")
    assert len(train) == 1


@pytest.mark.parametrize(
    "text",
    [
        'image,caption\n0_a.jpg,"A dog , a ""cat"""\n1_a.jpg,plain\n',
        'image_name| comment_number| comment\n0_a.jpg| 0| A dog , a "cat"\n1_a.jpg| 0| plain\n'
        "1_a.jpg| 4   A row cut short\n",
    ],
)
def test_tables_of_captions_are_read(text: str, tmp_path: Path) -> None:
    files.flickr(tmp_path)
    found = every(open_collection(files.put(tmp_path / "captions.txt", text)))
    assert [(i.key, i.texts) for i in found] == [
        ("0_a.jpg", ('A dog , a "cat"',)), ("1_a.jpg", ("plain",)),
    ]  # fmt: skip


def test_questions_come_with_their_choices(tmp_path: Path) -> None:
    path = files.aokvqa(tmp_path)
    first, second = every(open_collection(path))
    assert first.texts[1:3] == ("What is 0? blue", "What is 0? {question}")
    assert (second.key, second.texts, second.label) == (
        "q1",
        ("What is 1? yes", "What is 1? no"),
        1,
    )
    answers = every(open_collection(path, wording="a photo of {choice}"))
    assert answers[1].texts == ("a photo of yes", "a photo of no")
    loaded = json.loads(path.read_text())
    for question in loaded:
        del question["correct_choice_idx"]
    assert every(open_collection(files.put(path, json.dumps(loaded))))[0].label is None


@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_memory_does_not_grow_with_the_pictures(kind: str, tmp_path: Path) -> None:
    """Many times the pictures, 52 MB of them, and less than 12 MB more at the peak of reading them all."""
    status = Path(
        "/proc/self/status"
    )  # getrusage counts what the parent had before it became this process
    if not status.exists():
        pytest.skip("no /proc to read the peak of the memory from")
    code = (
        "import sys\n"
        "from modgap.datasets import open_collection\n"
        "found = open_collection(sys.argv[1])\n"
        "n = sum(len(item.image) for item in found.items(0, len(found)))\n"
        "lines = open('/proc/self/status').read().splitlines()\n"
        "print(n, next(line.split()[1] for line in lines if line.startswith('VmHWM')))\n"
    )
    noise, peaks = np.random.default_rng(0).bytes(125_000), []
    for count in (64, 416):
        path = tmp_path / f"{count}.{kind}"
        if kind == "tar":
            files.tar(path, [(f"{i}.jpg", noise) for i in range(count)])
        else:
            table = pa.table({"image": [noise] * count})
            options = {"write_batch_size": 16, "data_page_size": 2**20}  # one row group, many pages
            pq.write_table(table, path, use_dictionary=False, compression="none", **options)
        done = subprocess.run(
            [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
        )
        size, peak = done.stdout.split()
        assert int(size) == count * 125_000
        peaks.append(int(peak))
    assert peaks[1] - peaks[0] < 12_288


def test_pictures_of_parquet_and_tar_are_those_that_were_written(tmp_path: Path) -> None:
    out = io.BytesIO()
    Image.fromarray(files.picture(0)).save(out, format="WEBP", lossless=True)
    path = files.tar(tmp_path / "w.tar", [("0.webp", out.getvalue())])
    assert np.array_equal(pixels(every(open_collection(path))[0]), files.picture(0))
