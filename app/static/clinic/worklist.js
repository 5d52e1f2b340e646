// The open page stays true: rows get their answer, new studies come in on top, what runs is shown.
"use strict";

(() => {
  const FIRST_PAUSE = 300;
  const LONGEST_PAUSE = 3000;
  const QUIET_PAUSE = 8000;
  const MOST_ROWS = 50;
  const table = document.getElementById("studies");
  const body = table.tBodies[0];
  const news = document.getElementById("news");
  const running = document.getElementById("running");
  const lost = document.getElementById("lost");
  const search = document.getElementById("q");
  const wanted = new Set();
  let pause = FIRST_PAUSE;
  let timer = 0;
  let failures = 0;
  let done = -1;
  let uncounted = false;

  /** @param {[string, string][]} query */
  async function ask(query) {
    const words = new URLSearchParams(query);
    const response = await fetch(`${table.dataset.rows}?${words}`, { headers: { Accept: "application/json" } });
    if (response.status === 401) return loggedOut((await response.json()).address);
    if (!response.ok) throw new Error(String(response.status));
    return response.json();
  }

  /** @param {{number: string, html: string}} row */
  function place(row) {
    const template = document.createElement("template");
    template.innerHTML = row.html.trim();
    const fresh = template.content.firstElementChild;
    const old = document.getElementById(fresh.id);
    if (old) {
      // The picture is the same: keeping it keeps the row from flickering.
      const picture = old.querySelector(".stamp img");
      if (picture && fresh.querySelector(".stamp img")) fresh.querySelector(".stamp img").replaceWith(picture);
      const focused = old.contains(document.activeElement);
      old.replaceWith(fresh);
      if (focused) fresh.querySelector("a").focus({ preventScroll: true });
    } else {
      fresh.classList.add("study--new");
      const next = [...body.rows].find((other) => other.dataset.number < row.number);
      body.insertBefore(fresh, next ?? null);
    }
    table.hidden = false;
    document.getElementById("nothing")?.remove();
    return fresh;
  }

  function waiting() {
    return [...body.querySelectorAll("[data-unfinished]")].slice(0, MOST_ROWS).map((row) => row.dataset.number);
  }

  /** One look at the server: rows that came to an answer, what runs, and how many there are. */
  async function look() {
    const numbers = waiting();
    const query = numbers.map((number) => ["number", number]);
    if (query.length) query.push(["finished", ""]);
    try {
      const told = await ask(query);
      if (!told) return;
      failures = 0;
      lost.hidden = true;
      const said = told.rows.map(answered);
      if (showBatch(told.batch, said) || told.rows.length) uncounted = true;
      if (said.length) news.textContent = said.join(" · ");
      if (uncounted) await count();
      pause = nextPause(told.rows.length, numbers.length, told.batch);
    } catch {
      failures += 1;
      // A single look that comes to nothing is no news
      if (failures > 1) say(lost.dataset.wordsAway);
      pause = LONGEST_PAUSE;
    }
    later();
  }

  function answered(row) {
    return `${row.number}: ${place(row).querySelector(".answer").textContent.trim()}`;
  }

  function nextPause(came, waited, batch) {
    if (!waited && !batch) return QUIET_PAUSE;
    // A long batch is looked at each second: looking takes from the same processor
    const least = batch && batch.waiting > 3 ? 1000 : FIRST_PAUSE;
    return Math.max(least, came ? FIRST_PAUSE : Math.min(pause * 1.3, LONGEST_PAUSE));
  }

  /** How many there are under each tab, with the filters of this page. */
  async function count() {
    uncounted = false;
    const told = await ask([...new URLSearchParams(location.search), ["counts", ""]].filter(([name]) => name !== "number"));
    for (const [tab, number] of Object.entries(told?.counts ?? {})) {
      document.querySelector(`[data-tab="${tab}"] .tab__count`).textContent = number;
    }
  }

  /** @param {string[]} said what the last look brings @returns {boolean} whether the batch has moved since */
  function showBatch(batch, said = []) {
    const before = done;
    done = batch ? batch.done : -1;
    if (batch) {
      document.getElementById("running-line").textContent = batch.words;
      document.getElementById("running-left").textContent = batch.left;
      const question = document.getElementById("running-question");
      if (question) question.textContent = batch.question;
      const bar = document.getElementById("running-bar");
      bar.max = batch.films;
      bar.value = batch.done;
    } else if (!running.hidden) {
      said.push(running.dataset.wordsFinished);
      running.querySelector("details")?.removeAttribute("open");
    }
    running.hidden = !batch;
    return done !== before;
  }

  function loggedOut(address) {
    const link = document.createElement("a");
    link.href = address;
    link.textContent = lost.dataset.wordsLogIn;
    say(`${lost.dataset.wordsLoggedOut} `, link);
    pause = QUIET_PAUSE;
    later();
  }

  function say(words, ...more) {
    lost.replaceChildren(words, ...more);
    lost.hidden = false;
  }

  function later() {
    clearTimeout(timer);
    timer = setTimeout(look, document.hidden ? Math.max(pause, QUIET_PAUSE) : pause);
  }

  function soon() {
    pause = FIRST_PAUSE;
    later();
  }

  // Many films are stored in a second: their rows are fetched together.
  let fetching = 0;
  document.addEventListener("film-stored", (event) => {
    wanted.add(event.detail);
    if (!fetching) fetching = setTimeout(fetchStored, FIRST_PAUSE);
  });

  async function fetchStored() {
    const takesNew = "takesNew" in table.dataset;
    const numbers = [...wanted].filter((number) => takesNew || document.getElementById(`study-${number}`));
    wanted.clear();
    fetching = 0;
    uncounted = true;
    try {
      const told = numbers.length ? await ask(numbers.slice(-MOST_ROWS).map((number) => ["number", number])) : null;
      told?.rows.forEach(place);
      if (told) showBatch(told.batch);
    } catch {
      // The studies are stored all the same; the next load of the page shows them.
    }
    // A page that has been open all day does not grow without end
    while (body.rows.length > 200) body.rows[body.rows.length - 1].remove();
    soon();
  }

  document.getElementById("cancel")?.addEventListener("submit", async (event) => {
    event.preventDefault();
    document.dispatchEvent(new CustomEvent("stop-sending"));
    const form = event.target;
    const button = form.querySelector("button");
    if (button.disabled) return;
    button.disabled = true;
    try {
      const response = await fetch(form.action, { method: "POST", body: new FormData(form), headers: { Accept: "application/json" } });
      if (!response.ok) throw new Error(String(response.status));
      const told = await response.json();
      form.closest("details").open = false;
      showBatch(told.batch);
      news.textContent = told.words;
    } catch {
      say(lost.dataset.wordsAway);
    }
    button.disabled = false;
    soon();
  });

  // "/" leads to the search; so does a barcode scanner, which types into whatever has the focus.
  const takesKeys = "input:not([type=file], [type=checkbox], [type=radio], [type=submit], [type=button]), textarea, select, [contenteditable]";
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.key.length !== 1) return;
    if (event.key === " " || event.target.closest?.(takesKeys)) return;
    search.focus();
    search.select();
    if (event.key === "/") event.preventDefault();
  });

  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) soon();
  });
  addEventListener("online", soon);
  addEventListener("pageshow", (event) => {
    if (event.persisted) soon();
  });
  done = running.hidden ? -1 : Number(document.getElementById("running-bar").value);
  if (waiting().length || !running.hidden) soon();
  else {
    pause = QUIET_PAUSE;
    later();
  }
})();
