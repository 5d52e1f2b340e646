// When nobody is there the page is covered, and stays below as it was left. Whether it is locked is
// the server's word: this script asks, tells it of hands on the keyboard, and sends PIN or password.
"use strict";

(() => {
  const LOOK = 5000;
  const TELL = 30_000;
  const cover = document.getElementById("lock");
  const form = cover.querySelector("[data-unlock]");
  const wrong = form.querySelector("[data-wrong]");
  const words = cover.dataset;
  const mine = Number(words.logIn);
  const others = "BroadcastChannel" in window ? new BroadcastChannel("clinic-lock") : null;
  let due = Date.now() + Number(words.seconds) * 1000;
  const whole = Number(words.seconds) * 1000;
  let told = Date.now();
  let asking = false;
  let title = "";
  let focused = null;

  const headers = () => ({
    Accept: "application/json",
    "X-CSRFToken": form.elements.csrfmiddlewaretoken.value,
  });

  /** Ask the server, or with POST tell it that somebody is here. */
  async function ask(method) {
    if (asking) return;
    asking = true;
    try {
      const response = await fetch(words.state, { method, headers: headers(), cache: "no-store" });
      if (response.status === 401) return location.reload(); // logged out meanwhile
      if (!response.ok) throw new Error(String(response.status));
      const told = await response.json();
      if (told.log_in !== mine) return location.reload(); // somebody else is logged in
      due = told.seconds === null ? Infinity : Date.now() + told.seconds * 1000;
      show(told.locked);
    } catch {
      if (Date.now() >= due) show(true);
    } finally {
      asking = false;
    }
  }

  function show(/** @type {boolean} */ locked) {
    if (locked !== cover.hidden) return;
    cover.hidden = !locked;
    document.body.classList.toggle("is-locked", locked);
    for (const part of document.body.children) if (part !== cover) part.inert = locked;
    if (locked) {
      if (document.fullscreenElement) document.exitFullscreen();
      focused = document.activeElement;
      title = document.title;
      document.title = document.getElementById("lock-title").textContent.trim();
      field().focus();
    } else {
      document.title = title;
      form.elements.password.value = "";
      if (form.elements.pin) form.elements.pin.value = "";
      say("");
      focused?.focus?.({ preventScroll: true });
    }
  }

  const field = () => (form.querySelector("[data-pin]:not([hidden]) input") ?? form.elements.password);

  function say(sentence) {
    wrong.textContent = sentence;
    wrong.hidden = !sentence;
  }

  function somebodyIsHere() {
    if (!cover.hidden || Date.now() >= due) return;
    due = Math.max(due, Date.now() + whole);
    if (Date.now() - told < TELL) return;
    told = Date.now();
    ask("POST");
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      const response = await fetch(form.action, { method: "POST", body: new FormData(form), headers: headers() });
      const answer = await response.json();
      if (response.status === 401) location.assign(answer.address);
      else if (!response.ok) refused(answer);
      else {
        due = answer.seconds === null ? Infinity : Date.now() + answer.seconds * 1000;
        show(false);
        others?.postMessage("unlocked");
      }
    } catch {
      say(words.wordsAway);
    }
  });

  /** @param {{error: string, pin?: boolean}} answer */
  function refused(answer) {
    say(answer.error);
    const pin = form.querySelector("[data-pin]");
    if (pin) {
      pin.hidden = answer.pin === false;
      form.elements.pin.value = "";
      form.querySelector("details").open ||= pin.hidden;
    }
    field().select();
    field().focus();
  }

  for (const name of ["pointerdown", "pointermove", "keydown", "wheel", "touchstart"]) {
    addEventListener(name, somebodyIsHere, { passive: true, capture: true });
  }
  others?.addEventListener("message", () => ask("GET"));
  addEventListener("pageshow", (event) => {
    if (event.persisted) ask("GET");
  });
  setInterval(() => {
    if (cover.hidden && Date.now() >= due) ask("GET");
  }, LOOK);
})();
