// Moves points, figures and marks to a moment of the run. All that it shows stands in the page's data.
"use strict";
(() => {
  const film = JSON.parse(document.getElementById("film").textContent);
  const time = document.getElementById("time");
  const play = document.getElementById("play");
  const now = document.getElementById("now");
  const picture = document.getElementById("picture");
  const sides = ["x", "y"].map((side) => [side, [...picture.querySelectorAll(`.${side} use`)]]);
  const pairs = [...picture.querySelectorAll(".pairs line")];
  const tiles = [...document.querySelectorAll(".tiles li")].map((tile) => ({
    number: tile.querySelector(".now"),
    mark: tile.querySelector(".mark"),
  }));
  const last = film.steps.length - 1;
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  const SECONDS = 9; // of the whole film
  const STAGES = 8; // shown one after another, a second each, where motion is not wanted
  let running = 0; // what ends the playing that is under way

  // Between two frames points go straight; figures are those of the frame that is nearer.
  function show(moment) {
    const before = Math.floor(moment);
    const after = Math.min(before + 1, last);
    const share = moment - before;
    const frame = Math.round(moment);
    const placed = {};
    for (const [side, marks] of sides) {
      const [a, b] = [film.points[before][side], film.points[after][side]];
      placed[side] = a.map((value, i) => value + share * (b[i] - value));
      marks.forEach((mark, i) => {
        mark.setAttribute("x", placed[side][2 * i]);
        mark.setAttribute("y", placed[side][2 * i + 1]);
      });
    }
    pairs.forEach((pair, i) => {
      pair.setAttribute("x1", placed.x[2 * i]);
      pair.setAttribute("y1", placed.x[2 * i + 1]);
      pair.setAttribute("x2", placed.y[2 * i]);
      pair.setAttribute("y2", placed.y[2 * i + 1]);
    });
    film.figures.forEach((figure, i) => {
      const at = figure.marks[frame];
      tiles[i].number.textContent = figure.text[frame];
      tiles[i].mark.style.visibility = at ? "visible" : "hidden";
      if (!at) return;
      tiles[i].mark.setAttribute("transform", `translate(${at[0]} 0)`);
      tiles[i].mark.querySelector("circle").setAttribute("cy", at[1]);
    });
    const said = film.figures.map((figure) => `${figure.title} ${figure.text[frame]}`).join(", ");
    now.textContent = film.steps[frame];
    time.value = frame;
    time.setAttribute("aria-valuetext", `step ${film.steps[frame]}: ${said}`);
  }

  function stop() {
    cancelAnimationFrame(running);
    clearInterval(running);
    running = 0;
    play.textContent = "Play";
  }

  function start() {
    const first = Number(time.value) < last ? Number(time.value) : 0;
    play.textContent = "Pause";
    if (calm.matches) {
      let frame = first;
      show(frame);
      running = setInterval(() => {
        frame = Math.min(frame + Math.ceil(last / STAGES), last);
        show(frame);
        if (frame === last) stop();
      }, 1000);
      return;
    }
    const begun = performance.now();
    const tick = (clock) => {
      const moment = first + (Math.max(clock - begun, 0) / 1000 / SECONDS) * last;
      show(Math.min(moment, last));
      if (moment < last) running = requestAnimationFrame(tick);
      else stop();
    };
    running = requestAnimationFrame(tick);
  }

  const toggle = () => (running ? stop() : start());
  play.addEventListener("click", toggle);
  time.addEventListener("input", () => {
    stop();
    show(Number(time.value));
  });
  time.addEventListener("keydown", (event) => {
    if (event.key !== " ") return;
    event.preventDefault();
    toggle();
  });
  document.documentElement.classList.add("moving");
  show(0);
})();
