"""The page of a simulated run: its numbers are the run's, and it asks for nothing from elsewhere."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from modgap.charts import sketch
from modgap.errors import ArgumentError
from modgap.paper.dynamics import Simulation, film, film_steps, simulate
from modgap.report.simulation_page import write_simulation_page

pytest.importorskip("jinja2", reason="the extra `report` is not installed")

#: Stability is an integral per record, so few are taken.
SETTINGS = Simulation(n=40, dimension=5, steps=300, rate=0.002, sigma=0.1, seed=5, record_every=100)
STEPS = film_steps(SETTINGS.steps, 12)
HOSTILE = "</script><script>alert(1)</script> \"'&<b> \u202eright to left " + "x" * 10_000


@pytest.fixture(scope="module")
def run():
    return simulate(SETTINGS, snapshots=STEPS)


@pytest.fixture(scope="module")
def made(run):
    return film(run)


@pytest.fixture(scope="module")
def page(made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    path = write_simulation_page(made, folder / "run.html", title=HOSTILE, command="modgap <x>")
    return path.read_text(encoding="utf-8")


class Reader(HTMLParser):
    """What a browser makes of a page: tags, attributes, the text of the headline."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.headline, self._in = [], [], "", ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self._in = tag
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("href", "src")]

    def handle_endtag(self, tag):
        self._in = ""

    def handle_data(self, data):
        self.headline += data if self._in == "h1" else ""


def data_of(page):
    text = re.search(r'<script type="application/json" id="film">(.*?)</script>', page, re.DOTALL)
    return json.loads(text[1])


def test_the_numbers_are_the_runs(run, page):
    data = data_of(page)
    kept = np.isin(run.step, STEPS)
    assert data["steps"] == [f"{step:,}" for step in run.step[kept]]
    expected = {
        "loss": run.loss,
        "gap": run.gap,
        "variance along the gap": np.maximum(run.variance_ratio_x, run.variance_ratio_y),
        "partners nearest": np.minimum(run.alignment_x, run.alignment_y),
        "stability": run.stability,
    }
    assert [figure["title"] for figure in data["figures"]] == list(expected)
    for figure in data["figures"]:
        said = [float(text.replace(",", "")) for text in figure["text"]]
        # three decimals, two digits where that is less, one decimal above ten
        assert said == pytest.approx(expected[figure["title"]][kept], abs=5e-4, rel=5e-2)
        for text in (figure["text"][0], figure["text"][-1]):
            assert text in page.partition('<script type="application/json"')[0]


def test_the_picture_keeps_distances_and_the_gap(run, made, page):
    """The points are a similar image of the run's: the gap lies along the first axis, whole."""
    data = data_of(page)
    points = np.asarray([frame["x"] + frame["y"] for frame in data["points"]])
    points = points.reshape(len(points), -1, 2)
    first, last = (points[i].reshape(2, SETTINGS.n, 2).mean(axis=1) for i in (0, -1))
    scale = np.hypot(*(first[1] - first[0])) / run.gap[0]
    assert abs(first[1] - first[0])[1] < 0.02 * scale
    # to the rounding of a tenth, and the little that the gap turns out of the plane
    assert (last[1] - last[0])[0] / scale == pytest.approx(run.gap[-1], rel=2e-3)
    x = np.asarray(run.snapshots[-1].x)
    spread = np.sqrt(np.linalg.eigvalsh(np.cov(np.asarray(made["frames"][-1]["x"]).T))[-1])
    assert spread == pytest.approx(np.sqrt(np.linalg.eigvalsh(np.cov(x.T))[-1]), rel=0.05)
    assert max(made["records"]["turned"]) < 5


def test_the_page_asks_for_nothing(page):
    assert not re.search(r"https?:(?!//www\.w3\.org/)", page.replace(HOSTILE, ""))
    found = Reader(page)
    assert {link for link in found.links if not link.startswith("#")} == {"data:,"}
    assert "default-src 'none'" in page
    assert not set(found.tags) & {"img", "iframe", "object", "embed"}


def test_a_hostile_title_is_text(page):
    found = Reader(page)
    # text, with its middle left out, and what would turn the text around written out
    start, end = HOSTILE[:60].replace("\u202e", "\\u202e"), "x" * 50
    assert found.headline.startswith(start)
    assert found.headline.endswith("…" + end)
    assert found.tags.count("script") == 2
    assert "modgap &lt;x&gt;" in page


def test_without_its_script_it_shows_start_way_and_end(made, page):
    still = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", still)
    assert [c.split(":")[0] for c in captions] == ["start", "on the way", "end"]
    assert captions[-1].endswith(f"step {SETTINGS.steps}")
    assert still.count("<use ") == 2 * SETTINGS.n * 4 + 2  # three stills, the live one, the legend


def test_the_sentence_says_what_the_run_did(made, tmp_path):
    def sentence(**settings):
        wanted = Simulation(**{"n": 40, "rate": 0.002, "steps": 200, **settings})
        run = simulate(wanted, snapshots=(0, 10, 200))
        text = write_simulation_page(film(run), tmp_path / "page.html").read_text(encoding="utf-8")
        return re.search(r'<p class="verdict">(.*?)</p>', text)[1]

    assert "The gap stays: 1.2" in sentence(start_gap=1.25)
    assert "The gap shrinks: " in sentence(start_gap=0.2)
    assert "There was no gap to begin with: " in sentence(start_gap=0.0, spread=0.005)


def test_many_pairs_are_drawn_from(run):
    few = film(run, max_points=7)
    whole = film(run)
    assert (few["shown"], few["pairs"]) == (7, 40)
    assert few["records"] == whole["records"]
    drawn = [whole["frames"][0]["x"].index(point) for point in few["frames"][0]["x"]]
    assert few["frames"][-1]["y"] == [whole["frames"][-1]["y"][i] for i in drawn]


def test_one_dimension_and_no_gap_at_all(tmp_path):
    x = np.linspace(-1, 1, 6)[:, None]
    from modgap.paper.dynamics import descend

    still = descend(x, x.copy(), Simulation(steps=4), snapshots=(0, 4))
    made = film(still)
    assert made["records"]["variance_ratio"] == [None, None]
    text = write_simulation_page(made, tmp_path / "page.html").read_text(encoding="utf-8")
    assert "NaN" not in text


def test_a_run_without_snapshots_is_refused():
    with pytest.raises(ArgumentError, match="`run` must hold at least two snapshots; got 0"):
        film(simulate(Simulation(n=4, steps=2)))


def test_curves_start_at_zero_and_factors_need_a_logarithm():
    flat = sketch.line([1.24, 1.23], [0, 1], height=56.0)
    assert flat.points[0][1] - flat.points[1][1] == pytest.approx(-0.4, abs=0.11)  # of 46
    steep = sketch.line([10.0, 1.0, 0.1], [0, 0.5, 1], logarithmic=True)
    assert steep.logarithmic
    assert steep.points[1][1] == pytest.approx((steep.points[0][1] + steep.points[2][1]) / 2)
    assert not sketch.line([2.0, 1.0], [0, 1], logarithmic=True).logarithmic
    assert sketch.line([None, None], [0, 1]).path == ""
