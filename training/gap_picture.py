"""The picture of how the gap forms: a row for each measure, a column for each temperature."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gap_criteria import Run, temperature_of

PICTURE_BATCH = 256
PICTURE_TEMPERATURES = ("0.01", "0.07", "0.5")
PANELS: dict[str, tuple[dict[str, str], str, float, float, list[float]]] = {
    "gap": ({"gap": "images"}, "linear", 0, 1.5, [0, 0.5, 1, 1.5]),
    "variance along the gap": (
        {"image_variance_along_gap": "images", "text_variance_along_gap": "texts"},
        "log",
        0.03,
        60,
        [0.1, 1, 10],
    ),
    "alignment of the rest": ({"centred_alignment": "images"}, "linear", 0, 1, [0, 0.5, 1]),
    "mean of |S-1|": (
        {"image_mass_deviation": "images", "text_mass_deviation": "texts"},
        "linear",
        0,
        1.6,
        [0, 0.5, 1, 1.5],
    ),
}
COLOURS = {"default": "#1b6ca8", "cone": "#c8541a", "matched": "#3f8f4f"}


def _points(runs: Sequence[Run], columns: dict[str, str]) -> list[dict[str, Any]]:
    """Return one record for each measured value of some columns."""
    return [
        {"start": run["start"], "step": step, "cloud": cloud, "value": value}
        for run in runs
        for column, cloud in columns.items()
        for step, value in zip(run["log"]["step"], run["log"][column], strict=True)
        if value is not None
    ]


def _columns_of_picture(parts: dict[str, Any]) -> dict[str, list[Run]]:
    """Return the runs of each column of the picture by its heading."""
    sources = {"many images": parts["grid"]["runs"], "by heart": parts["by heart"]["runs"]}
    return {
        f"{name}, {temperature}": [
            run
            for run in runs
            if run["loss"] == "softmax"
            and temperature_of(run) == temperature
            and (name == "by heart" or run["batch_size"] == PICTURE_BATCH)
        ]
        for name, runs in sources.items()
        for temperature in PICTURE_TEMPERATURES
    }


def _cell(runs: Sequence[Run], panel: str, heading: str, *, left: bool, low: bool) -> Any:
    """Return one small chart; `left` and `low` say whether it stands at those edges."""
    import altair as alt

    columns, scale, least, most, ticks = PANELS[panel]
    last = max(run["log"]["step"][-1] for run in runs)
    steps = [0, 1, 10, *([100] if last > 400 else []), last]
    starts = alt.Scale(domain=list(COLOURS), range=list(COLOURS.values()))
    dashes = alt.Scale(domain=["images", "texts"], range=[[1, 0], [4, 3]])
    return (
        alt.Chart(alt.Data(values=_points(runs, columns)))
        .mark_line(strokeWidth=1.6, clip=True)
        .encode(
            x=alt.X("step:Q", title="step" if low else None)
            .scale(type="symlog", constant=1, domain=[0, last], nice=False)
            .axis(values=steps, grid=False, labels=low, labelOverlap=False),
            y=alt.Y("value:Q", title=panel if left else None)
            .scale(type=scale, domain=[least, most], nice=False)
            .axis(values=ticks, labels=left, gridOpacity=0.6),
            color=alt.Color("start:N", title="start", scale=starts),
            strokeDash=alt.StrokeDash("cloud:N", title="cloud", scale=dashes),
        )
        .properties(width=140, height=105, title=heading)
    )


def draw(parts: dict[str, Any]) -> Any:
    """Return the picture: a row for each measure, a column for each data and temperature."""
    import altair as alt

    chosen = _columns_of_picture(parts)
    rows = [
        alt.hconcat(
            *(
                _cell(runs, panel, "" if row else name, left=not column, low=row == len(PANELS) - 1)
                for column, (name, runs) in enumerate(chosen.items())
            ),
            spacing=10,
        )
        for row, panel in enumerate(PANELS)
    ]
    return (
        alt.vconcat(*rows, spacing=6)
        .configure(font="sans-serif", background="white")
        .configure_view(stroke="#cccccc")
        .configure_title(fontSize=12, fontWeight="normal")
        .configure_axis(labelFontSize=10, titleFontSize=11, titleFontWeight="normal")
        .configure_legend(orient="bottom", titleFontWeight="normal", symbolStrokeColor="#444444")
    )
