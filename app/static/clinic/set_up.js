// The first choices one step at a time. Without this script they stand on one page, below each other.
"use strict";
(() => {
  const wizard = document.getElementById("wizard");
  const form = document.getElementById("set-up");
  const languages = document.getElementById("choose-language");
  const steps = [...wizard.querySelectorAll(".wizard__step")];
  const progress = [...wizard.querySelectorAll(".wizard__progress li")];
  const moves = wizard.querySelector(".wizard__moves");
  const back = moves.querySelector("[data-move=back]");
  const on = moves.querySelector("[data-move=on]");
  let now = 0;

  function show(/** @type {number} */ number, focus = true) {
    now = number;
    steps.forEach((step, place) => { step.hidden = place !== now; });
    progress.forEach((item, place) => {
      item.classList.toggle("wizard__done", place < now);
      if (place === now) item.setAttribute("aria-current", "step");
      else item.removeAttribute("aria-current");
    });
    back.hidden = now === 0;
    on.hidden = now === steps.length - 1;
    if (!focus) return;
    steps[now].querySelector("h2").focus({ preventScroll: true });
    scrollTo(0, 0);
  }

  /** The first thing in a step that is still missing is shown by the browser itself. */
  function isWhole(/** @type {HTMLElement} */ step) {
    return [...step.querySelectorAll("input, select")].every((input) => input.reportValidity());
  }

  function showMode() {
    for (const part of wizard.querySelectorAll("[data-when]"))
      part.hidden = part.dataset.when !== form.elements.mode.value;
  }

  back.addEventListener("click", () => show(now - 1));
  on.addEventListener("click", () => { if (isWhole(steps[now])) show(now + 1); });
  form.addEventListener("change", showMode);
  // Enter in a field goes on, as it would in a form of that one step
  form.addEventListener("submit", (event) => {
    if (now === steps.length - 1) return;
    event.preventDefault();
    on.click();
  });
  languages.addEventListener("change", () => languages.submit());

  form.noValidate = true;
  wizard.querySelector("[data-without-script]").hidden = true;
  wizard.querySelector(".wizard__progress").hidden = moves.hidden = false;
  showMode();
  const wrong = steps.findIndex((step) => step.querySelector(".field__error"));
  show(Math.max(wrong, 0), wrong >= 0);
})();
