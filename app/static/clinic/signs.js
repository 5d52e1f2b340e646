// Clinical signs: breaths counted by tapping, and "none of these" beside the danger signs.
"use strict";

(() => {
  const counter = document.getElementById("counter");
  if (counter) wireCounter(counter);
  const dangers = document.querySelector(".sign--danger_signs");
  if (dangers) wireNone(dangers);

  /** "None of these" and a sign exclude each other: what was ticked last holds. */
  function wireNone(/** @type {Element} */ group) {
    const ticks = [...group.querySelectorAll("input")];
    group.addEventListener("change", (event) => {
      if (!event.target.checked) return;
      const none = event.target.value === "none";
      for (const tick of ticks) {
        if ((tick.value === "none") !== none) tick.checked = false;
      }
    });
  }

  /** The first tap starts the clock, each one after it is a breath. */
  function wireCounter(/** @type {HTMLElement} */ box) {
    const open = document.querySelector(".counter__open");
    const field = document.getElementById("sign-breaths_per_minute");
    const tap = box.querySelector(".counter__tap");
    const count = box.querySelector(".counter__count");
    const words = box.querySelector(".counter__words");
    const left = box.querySelector(".counter__left");
    const news = box.querySelector(".counter__news");
    const lengths = [...box.querySelectorAll("input[name=counter]")];
    let breaths = 0, started = 0, seconds = 60, clock = 0;

    open.hidden = false;
    open.addEventListener("click", () => {
      box.hidden = !box.hidden;
      open.setAttribute("aria-expanded", String(!box.hidden));
      stop();
      if (!box.hidden) tap.focus();
    });

    function stop() {
      clearInterval(clock);
      clock = breaths = 0;
      count.textContent = "0";
      words.textContent = box.dataset.wordsStart;
      left.textContent = "";
      lengths.forEach((length) => { length.disabled = false; });
    }

    function start() {
      seconds = Number(lengths.find((length) => length.checked).value);
      news.textContent = "";
      started = Date.now();
      words.textContent = box.dataset.wordsTap;
      lengths.forEach((length) => { length.disabled = true; });
      clock = setInterval(tick, 200);
      tick();
    }

    function tick() {
      const rest = seconds - (Date.now() - started) / 1000;
      left.textContent = `${Math.max(0, Math.ceil(rest))} ${box.dataset.wordsLeft}`;
      if (rest <= 0) finish();
    }

    function finish() {
      const perMinute = Math.round(breaths * 60 / seconds);
      field.value = String(perMinute);
      stop();
      count.textContent = String(perMinute);
      news.textContent = `${box.dataset.wordsDone} ${perMinute}`
        + (seconds < 60 ? `. ${box.dataset.wordsDoubled}` : "");
    }

    tap.addEventListener("click", () => {
      if (!clock) return start();
      breaths += 1;
      count.textContent = String(breaths);
    });
  }
})();
