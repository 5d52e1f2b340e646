// Patients are found while somebody types. Without scripts the button beside the field searches.
"use strict";

(() => {
  const field = document.querySelector("[data-find]");
  const found = document.getElementById("found");
  if (!field || !found) return;
  const PAUSE = 200;
  let timer = 0;
  let asked = 0;

  async function look() {
    const turn = ++asked;
    const address = new URL(field.dataset.find, location.href);
    address.searchParams.set("q", field.value);
    try {
      const response = await fetch(address, { headers: { Accept: "application/json" } });
      if (!response.ok) return;
      const { html } = await response.json();
      // A slow answer must not replace a later one.
      if (turn === asked) found.innerHTML = html;
    } catch {
      // The program is being started again: the button still searches.
    }
  }

  field.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(look, PAUSE);
  });
  field.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    // Not the form: what was typed into it is not to be sent yet.
    event.preventDefault();
    clearTimeout(timer);
    look();
  });
})();
