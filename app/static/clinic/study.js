// A study that waits is asked for until its answer is there; the map's slider and ticks.
"use strict";

(() => {
  const films = document.getElementById("films");
  const news = document.getElementById("news");
  const LABEL_PIXELS = 14;
  const PATIENCE = 400;

  /** Often at first, as most answers come within a blink; rarely when the queue is long. */
  function pauseAfter(/** @type {number} */ milliseconds) {
    if (milliseconds < 1000) return 50;
    if (milliseconds < 3000) return 100;
    if (milliseconds < 15000) return 400;
    return 2000;
  }

  async function waitForAnswer() {
    const started = performance.now();
    // Drawing the film takes the processor from its analysis: most answers are there sooner.
    setTimeout(showPictures, PATIENCE);
    for (;;) {
      try {
        const response = await fetch(films.dataset.status, { headers: { Accept: "application/json" } });
        if (response.status === 401) return location.reload(); // logged out: the page leads to the log-in
        // Somebody has deleted it meanwhile: the page itself says so.
        if (response.status === 404) return location.reload();
        const study = response.ok ? await response.json() : null;
        if (study?.finished) return showAnswer(study);
      } catch {
        // The program is being started again, or the laptop slept: go on asking.
      }
      const pause = pauseAfter(performance.now() - started);
      await new Promise((done) => setTimeout(done, pause));
    }
  }

  function showPictures() {
    for (const picture of films.querySelectorAll("[data-later]")) {
      picture.setAttribute("href", picture.dataset.later);
    }
  }

  /** @param {{number: string, html: string, asks_agreement: boolean}} study */
  function showAnswer(study) {
    films.innerHTML = study.html;
    delete films.dataset.unfinished;
    const lines = [...films.querySelectorAll(".verdict__line")].map((line) =>
      line.textContent.replace(/\s+/g, " ").trim());
    news.textContent = lines.join(". ");
    document.title = `${study.number} – ${lines.join(". ")}`;
    films.querySelectorAll(".reading").forEach(wire);
    if (!study.asks_agreement) return;
    document.querySelectorAll("[data-with-answer]").forEach((part) => { part.hidden = false; });
  }

  /** @param {HTMLElement} reading */
  function wire(reading) {
    const picture = reading.querySelector(".film");
    const controls = reading.querySelector(".stage__controls");
    if (picture) label(picture);
    if (!controls) return;
    controls.hidden = false;
    const map = reading.querySelector(".film__map");
    const marks = reading.querySelector(".film__marks");
    const slider = controls.querySelector(".strength__slider");
    const value = controls.querySelector(".strength__value");
    const tick = controls.querySelector(".marks__tick");
    const off = films.dataset.wordsOff;
    const show = () => {
      map.setAttribute("opacity", String(slider.value / 100));
      value.textContent = slider.value === "0" ? off : `${slider.value} %`;
      slider.setAttribute("aria-valuetext", value.textContent);
    };
    const showMarks = () => marks.setAttribute("visibility", tick.checked ? "visible" : "hidden");
    slider.addEventListener("input", show);
    tick.addEventListener("change", showMarks);
    // A browser may bring back what was set before the page was left.
    show();
    showMarks();
  }

  /** Labels and the ring keep their size on the screen, however large the film is. */
  function label(/** @type {SVGSVGElement} */ picture) {
    const fit = () => {
      const scale = picture.getScreenCTM()?.a;
      if (!scale) return;
      picture.querySelectorAll("text").forEach((text) => text.setAttribute("font-size", LABEL_PIXELS / scale));
      picture.querySelectorAll("circle").forEach((ring) => ring.setAttribute("r", 9 / scale));
    };
    new ResizeObserver(fit).observe(picture);
    fit();
  }

  films.querySelectorAll(".reading").forEach(wire);
  if ("unfinished" in films.dataset) waitForAnswer();
})();
