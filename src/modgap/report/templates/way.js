/* Moves the clouds and the figures beside them to the stop that the slider is on. Without it the page
   shows the closed clouds, and outlines of where they were. */
(() => {
  "use strict";
  document.documentElement.classList.add("moving");
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const sides = ["queries", "gallery"];

  const dots = (flat, k, paths) => {
    let d = "";
    for (let i = 2 * k; i < flat.length - 1; i += 2 * paths)
      d += "M" + flat[i].toFixed(1) + " " + flat[i + 1].toFixed(1) + "h0";
    return d;
  };
  const closed = (flat) => {
    let d = "";
    for (let i = 0; i < flat.length; i += 2) d += (i ? "L" : "M") + flat[i].toFixed(1) + " " + flat[i + 1].toFixed(1);
    return d + "Z";
  };
  /* Between two stops every point goes straight. */
  const between = (a, b, t) => a.map((v, i) => v + (b[i] - v) * t);

  for (const way of document.querySelectorAll("[data-way]")) {
    const data = JSON.parse(way.querySelector("script").textContent);
    const slider = way.querySelector("input");
    const play = way.querySelector("button");
    const last = data.frames.length - 1;
    let place = data.start, wanted = data.start, running = 0, resting = 0, playing = false;

    const draw = () => {
      const i = Math.min(Math.floor(place), last - 1), t = place - i;
      for (const side of sides) {
        const flat = between(data.frames[i][side], data.frames[i + 1][side], t);
        const paths = way.querySelectorAll(`[data-dots="${side}"]`);
        paths.forEach((path, k) => path.setAttribute("d", dots(flat, k, data.paths)));
        const line = between(data.frames[i][side + "_line"], data.frames[i + 1][side + "_line"], t);
        way.querySelector(`[data-line="${side}"]`).setAttribute("d", closed(line));
      }
    };
    const say = (stop) => {
      way.querySelectorAll("[data-now]").forEach((cell, row) => { cell.textContent = data.figures[row][stop]; });
      way.querySelectorAll("[data-stop]").forEach((cell) => { cell.textContent = data.stops[stop]; });
      slider.setAttribute("aria-valuetext", data.stops[stop]);
    };
    const go = (stop, pace) => {
      wanted = stop;
      say(stop);
      cancelAnimationFrame(running);
      clearTimeout(resting);
      if (still.matches) { place = wanted; draw(); return; }
      let before = performance.now();
      const step = (now) => {
        const most = Math.max(now - before, 0) / pace;
        before = now;
        place += Math.max(-most, Math.min(most, wanted - place));
        draw();
        if (place !== wanted) running = requestAnimationFrame(step);
        else if (playing) resting = setTimeout(next, 400); // so that its figures can be read
      };
      running = requestAnimationFrame(step);
    };
    const rest = () => { playing = false; clearTimeout(resting); play.textContent = "Play"; };
    const next = () => {
      if (wanted >= data.start) { rest(); return; }
      slider.value = wanted + 1;
      go(wanted + 1, 700);
    };
    slider.addEventListener("input", () => { rest(); go(Number(slider.value), 250); });
    play.addEventListener("click", () => {
      if (playing) { rest(); return; }
      playing = true;
      play.textContent = "Stop";
      place = 0;
      slider.value = 0;
      go(0, 700);
      if (still.matches) { rest(); slider.value = data.start; go(data.start, 700); }
    });
    slider.value = data.start;
    say(data.start);
  }
})();
