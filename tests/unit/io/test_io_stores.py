"""A real S3 server on this machine: what it gives, takes and refuses."""

import io
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from io_files import save
from io_servers import Refusing, refused, serving

from modgap.cli import main
from modgap.closers.maps import AffineMap
from modgap.engines import Processes
from modgap.errors import FormatError, WorkerError
from modgap.io import apply_to_source, open_source, read_array, streams

s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed: pip install modgap[dev-stores]")
moto = pytest.importorskip(
    "moto.server", reason="moto is not installed: pip install modgap[dev-stores]"
)

CLOUD = np.random.default_rng(0).standard_normal((24, 5)).astype(np.float32)
SHIFT = AffineMap(width=5, shift=np.arange(5.0))
SHARDS = [f"img_emb_{i}.npy" for i in range(3)]


@pytest.fixture(scope="module")
def server():
    """The environment of an S3 server that runs in this process, as a user would set it."""
    running = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_MAX_ATTEMPTS", "1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        yield running
    s3fs.S3FileSystem.clear_instance_cache()
    running.stop()


@pytest.fixture
def bucket(server, request):
    """The URL of a bucket with three shards of .npy, and the file system that it is in."""
    s3fs.S3FileSystem.clear_instance_cache()
    files = s3fs.S3FileSystem()
    name = f"b-{abs(hash(request.node.nodeid)) % 10**9}"
    files.mkdir(name)
    for i in range(3):
        put(files, f"{name}/emb/img_emb_{i}.npy", CLOUD[8 * i : 8 * i + 8])
    return f"s3://{name}", files


def put(files, path, array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    files.pipe_file(path, buffer.getvalue())


def names(files, url):
    files.invalidate_cache()
    return sorted(path.rpartition("/")[2] for path in files.ls(url))


def test_close_and_apply_from_a_bucket_to_a_bucket(bucket, tmp_path):
    url, files = bucket
    for suffix in ("parquet", "safetensors"):
        for i in range(2):
            local = save(tmp_path / f"text_emb_{i}.{suffix}", emb=CLOUD[4 * i : 4 * i + 4] + 1)
            files.put_file(str(local), f"{url}/{suffix}/{local.name}")
    closure = str(tmp_path / "c.safetensors")
    words = ["--method", "recenter", "--out", closure]
    assert main(["close", "--queries", f"{url}:emb", "--gallery", f"{url}:parquet", *words]) == 0
    for side, kind in (("queries", "emb"), ("gallery", "parquet"), ("gallery", "safetensors")):
        out = f"{url}/closed/{kind}"
        assert main(["apply", closure, f"--{side}", f"{url}:{kind}", "--out", out]) == 0
        mine = tmp_path / kind
        assert main(["apply", closure, f"--{side}", f"{url}:{kind}", "--out", str(mine)]) == 0
        # What lies in the store is what lies on the disk, byte by byte, and nothing else does.
        expected = sorted(path.name for path in mine.iterdir())
        assert names(files, out) == expected
        for name in expected:
            if name != "modgap.json":
                assert files.cat_file(f"{out}/{name}") == (mine / name).read_bytes(), name


def test_a_bucket_is_gone_on_with(bucket):
    url, files = bucket
    out = f"{url}/out"

    def run():
        return apply_to_source(SHIFT, open_source(f"{url}/emb"), out, fingerprint="f")["skipped"]

    assert run() == 0
    assert run() == 3
    put(files, f"{url}/emb/img_emb_1.npy", CLOUD[16:])
    assert run() == 2
    np.testing.assert_array_equal(read_array(out)[8:16], SHIFT(CLOUD[16:]))
    files.pipe_file(f"{out}/img_emb_2.npy", b"damaged")
    files.pipe_file(f"{out}/.img_emb_2.npy.0123abcd.tmp.npy", b"left by a kill")
    assert run() == 2
    assert names(files, out) == [*SHARDS, "modgap.json"]
    with pytest.raises(FormatError, match="the input's own"):
        apply_to_source(SHIFT, open_source(f"{url}/emb"), f"{url}/emb/", fingerprint="f")
    with pytest.raises(FormatError, match="was not written by this command"):
        apply_to_source(SHIFT, open_source(f"{url}/out"), f"{url}/emb", fingerprint="f")


KILLED = """
import os, signal, sys
import numpy as np
from modgap.closers.maps import AffineMap
from modgap.io import apply_to_source, open_source
from modgap.io.remote import RemotePath

moment, url, out = sys.argv[1:]
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
done = 0
def tell(rows):
    global done
    done += rows
    if moment == "sent in part" and done == 16:
        die()
if moment == "copied":
    mark = RemotePath.fingerprint
    RemotePath.fingerprint = lambda self: die() if self.url == out + "/img_emb_1.npy" else mark(self)
shift = AffineMap(width=5, shift=np.arange(5.0))
apply_to_source(shift, open_source(url), out, fingerprint="f", progress=tell)
"""


def test_killed_twice_and_gone_on_with(bucket, tmp_path, monkeypatch):
    url, files = bucket
    out = f"{url}/out"
    paths = os.pathsep.join(sys.path)
    for moment, named in (("sent in part", False), ("copied", True)):
        words = [sys.executable, "-c", KILLED, moment, f"{url}/emb", out]
        run = subprocess.run(words, env={**os.environ, "PYTHONPATH": paths}, check=False)
        assert run.returncode == -signal.SIGKILL
        left = names(files, out)
        assert ".modgap.lock" in left
        assert ("img_emb_1.npy" in left) == named
    # Other processes send their files: what this one has seen of the folder is old by then.
    monkeypatch.setattr(streams, "_TASK_BYTES", 1)
    source = open_source(f"{url}/emb")
    apply_to_source(SHIFT, source, out, fingerprint="f", engine=Processes(2))
    apply_to_source(SHIFT, source, tmp_path, fingerprint="f")
    for name in SHARDS:
        assert files.cat_file(f"{out}/{name}") == (tmp_path / name).read_bytes()
    assert names(files, out) == [*SHARDS, "modgap.json"]


def test_of_two_runs_the_later_one_goes_on(bucket):
    url, files = bucket
    out = f"{url}/out"
    source = open_source(f"{url}/emb")

    def meanwhile(rows):
        if not files.exists(f"{out}/img_emb_2.npy"):
            apply_to_source(SHIFT, source, out, fingerprint="f")
            files.invalidate_cache()
        return rows

    with pytest.raises(WorkerError, match="another run has taken the folder; this one stops"):
        apply_to_source(meanwhile, source, out, fingerprint="other")
    assert names(files, out) == [*SHARDS, "modgap.json"]
    np.testing.assert_array_equal(read_array(out), SHIFT(CLOUD))
    assert apply_to_source(SHIFT, source, out, fingerprint="f")["skipped"] == 3


def test_what_a_store_refuses_is_one_line(bucket, tmp_path, capsys, monkeypatch):
    url, files = bucket
    closure = str(tmp_path / "c.safetensors")
    words = ["--queries", f"{url}/emb", "--gallery", f"{url}/emb"]
    assert main(["close", *words, "--out", closure]) == 0
    mapped = ["apply", closure, "--queries", f"{url}/emb"]

    line = refused(capsys, *mapped, "--out", "s3://absent-bucket/out")
    assert "cannot write `s3://absent-bucket/out`" in line
    assert not files.exists("absent-bucket")
    line = refused(capsys, "measure", "s3://absent-bucket/emb", f"{url}/emb")
    assert "no file or folder at `s3://absent-bucket/emb`" in line
    line = refused(capsys, "measure", f"{url}/absent", f"{url}/emb")
    assert f"no file or folder at `{url}/absent`" in line
    line = refused(capsys, "close", *words, "--out", f"{url}/c.safetensors")
    assert "`--out` must be on this machine's disks" in line

    with serving(Refusing) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        s3fs.S3FileSystem.clear_instance_cache()
        line = refused(capsys, "measure", f"{url}/emb", f"{url}/emb")
        assert f"`{url}/emb` cannot be read: permission denied; check the credentials" in line
    # The same address, where nothing listens any more.
    s3fs.S3FileSystem.clear_instance_cache()
    line = refused(capsys, "measure", f"{url}/emb", f"{url}/emb")
    assert f"`{url}/emb` cannot be reached: Could not connect to the endpoint" in line
    mine = str(save(tmp_path / "x.npy", emb=CLOUD))
    line = refused(capsys, "apply", closure, "--queries", mine, "--out", f"{url}/out")
    assert f"cannot write `{url}/out`: Could not connect to the endpoint" in line
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    s3fs.S3FileSystem.clear_instance_cache()
    line = refused(capsys, "measure", f"{url}/emb", f"{url}/emb")
    assert f"`{url}/emb` cannot be reached: Unable to locate credentials" in line
