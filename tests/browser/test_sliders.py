"""Sliders move points and figures alike, by hand, by key and by themselves."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

#: The stop that is shown, its figures, and the first query's place.
LOOK = """(n) => {
  const way = document.querySelectorAll("[data-way]")[n];
  const numbers = way.querySelector("[data-dots=queries]").getAttribute("d").match(/[\\d.-]+/g);
  return {
    slider: Number(way.querySelector("input").value),
    stop: way.querySelector("p[data-stop]").textContent,
    figures: [...way.querySelectorAll("[data-now]")].map((cell) => cell.textContent),
    point: numbers.slice(0, 2).map(Number),
    said: way.querySelector("input").getAttribute("aria-valuetext"),
  };
}"""


def way(page: Any, n: int = 0) -> dict[str, Any]:
    """Return what the page's own data say of every stop."""
    found: dict[str, Any] = json.loads(page.locator("[data-way] script").nth(n).text_content())
    return found


def arrived(page: Any, stop: int, n: int = 0) -> dict[str, Any]:
    """Wait until the points are at a stop, and return what is seen there."""
    target = way(page, n)["frames"][stop]["queries"][:2]
    return until(page, lambda: page.evaluate(LOOK, n), lambda seen: seen["point"] == target)


def until(page: Any, look: Callable[[], Any], so: Callable[[Any], bool]) -> Any:
    """Look again and again until it is so, and return what was seen."""
    for _ in range(400):
        if so(seen := look()):
            return seen
        page.wait_for_timeout(20)
    raise AssertionError(f"after eight seconds: {seen}")


def test_figures_beside_the_picture_are_those_of_the_stop(
    visit: Callable[..., Any], pages: Any
) -> None:
    opened = visit(pages("sample"))
    page, data = opened.page, way(opened.page)
    problem = pages.summary("sample")["problems"][0]
    known = problem["way"]
    first = page.evaluate(LOOK, 0)
    assert first["slider"] == data["start"] == known["alphas"].index(1.0)
    page.locator("[data-way] input").focus()
    for key, stop in (("ArrowLeft", 1), ("Home", 0), ("End", 3), ("ArrowDown", 2)):
        page.keyboard.press(key)
        seen = arrived(page, stop)
        assert seen["slider"] == stop
        assert seen["figures"] == [row[stop] for row in data["figures"]]
        assert seen["figures"][:2] == [
            f"{known[name][stop]:.3f}" for name in ("agreement", "retention")
        ]
        assert seen["stop"] == seen["said"] == data["stops"][stop]
    assert opened.said == []


def test_play_goes_from_the_rows_as_they_are_to_the_closed_ones(
    visit: Callable[..., Any], pages: Any
) -> None:
    page = visit(pages("sample")).page
    play = page.locator("[data-way] button")
    play.click()
    assert play.inner_text() == "Stop"
    assert page.evaluate(LOOK, 0)["slider"] == 0
    assert arrived(page, 1)["slider"] >= 1  # on the way
    seen = arrived(page, 2)
    until(page, play.inner_text, "Play".__eq__)
    assert (seen["slider"], seen["stop"]) == (2, way(page)["stops"][2])


def test_who_wants_no_motion_gets_the_stop_at_once(visit: Callable[..., Any], pages: Any) -> None:
    page = visit(pages("sample"), reduced_motion="reduce").page
    target = way(page)["frames"][0]["queries"][:2]
    page.locator("[data-way] input").focus()
    page.keyboard.press("Home")
    assert page.evaluate(LOOK, 0)["point"] == target
    page.locator("[data-way] button").click()
    assert page.evaluate(LOOK, 0)["slider"] == 2
    assert page.locator("[data-way] button").inner_text() == "Play"


def test_all_is_reached_by_the_keyboard(visit: Callable[..., Any], pages: Any) -> None:
    """Tab comes to the directions, the slider's button, the slider, code and folds, in this order."""
    page = visit(pages("pairs")).page
    where = """() => { const e = document.activeElement;
      return e.id || e.textContent.trim().slice(0, 24); }"""
    reached = []
    while not reached or not reached[-1].startswith("Where these"):
        assert len(reached) < 20, reached
        page.keyboard.press("Tab")
        reached.append(page.evaluate(where))
        if reached[-1] == "tab-1":
            page.keyboard.press("ArrowRight")
            assert page.evaluate(where) == "tab-2"
            assert page.locator("#problem-2 .clouds").is_visible()
            assert not page.locator("#problem-1").is_visible()
        if reached[-1].startswith("The gap in bits"):
            assert page.locator("details[open]").count() == 0
            page.keyboard.press("Enter")
            assert page.locator("details[open] table").first.is_visible()
    places = [
        reached.index(word) for word in ("tab-1", "Play", "way-2", "All closers under all no")
    ]
    assert places == sorted(places)
    assert "way-1" not in reached  # of the direction that is not shown


def test_a_run_is_played_and_stopped(visit: Callable[..., Any], pages: Any) -> None:
    opened = visit(pages("simulation"), width=390)
    page, run = opened.page, pages.run()
    look = """() => ({
      step: document.getElementById("now").textContent,
      said: document.getElementById("time").getAttribute("aria-valuetext"),
      loss: document.querySelector(".tiles .now").textContent,
      mark: document.querySelector(".tiles .mark").getAttribute("transform"),
      point: document.querySelector("#picture .x use").getAttribute("x"),
    })"""
    first = page.evaluate(look)
    page.locator("#time").focus()
    page.keyboard.press("End")
    last = page.evaluate(look)
    assert (first["step"], last["step"]) == ("0", "1,000")
    for seen, record in ((first, run.loss[0]), (last, run.loss[-1])):
        assert float(seen["loss"]) == pytest.approx(record, rel=0.05)  # two digits are shown
        assert f"loss {seen['loss']}, gap" in seen["said"]
    assert first["mark"] != last["mark"]
    assert first["point"] != last["point"]
    # from the end it plays from the start; a space on the slider stops it on the way
    page.locator("#play").click()
    until(page, page.locator("#time").input_value, lambda value: int(value) > 2)
    page.locator("#time").focus()
    page.keyboard.press(" ")
    stopped = page.evaluate(look)
    assert 0 < int(stopped["step"].replace(",", "")) < 1000
    assert page.locator("#play").inner_text() == "Play"
    assert opened.said == []
