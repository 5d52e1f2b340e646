// Rows that wait for an answer are asked for until they have one; new studies come in on top.
"use strict";

(() => {
  const FIRST_PAUSE = 300;
  const LONGEST_PAUSE = 3000;
  const table = document.getElementById("studies");
  const body = table.tBodies[0];
  const news = document.getElementById("news");
  const count = document.querySelector(".list__count");
  let pause = FIRST_PAUSE;
  let timer = 0;

  /** @param {string[]} numbers @param {boolean} finished */
  async function ask(numbers, finished) {
    const query = new URLSearchParams(numbers.map((number) => ["number", number]));
    if (finished) query.set("finished", "");
    const response = await fetch(`${table.dataset.rows}?${query}`, { headers: { Accept: "application/json" } });
    if (response.status === 401) location.reload(); // logged out: the page leads to the log-in
    if (!response.ok) throw new Error(String(response.status));
    return (await response.json()).rows;
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
      count.textContent = String(Number(count.textContent) + 1);
    }
    table.hidden = false;
    document.getElementById("nothing")?.remove();
    return fresh;
  }

  function waiting() {
    return [...body.querySelectorAll("[data-unfinished]")].map((row) => row.dataset.number);
  }

  async function look() {
    const numbers = waiting();
    if (!numbers.length) return;
    try {
      const rows = await ask(numbers.slice(0, 50), true);
      for (const row of rows) {
        const fresh = place(row);
        const words = fresh.querySelector(".answer").textContent.trim();
        news.textContent = `${row.number}: ${words}`;
      }
      pause = rows.length ? FIRST_PAUSE : Math.min(pause * 1.3, LONGEST_PAUSE);
    } catch {
      pause = LONGEST_PAUSE;
    }
    later();
  }

  function later() {
    clearTimeout(timer);
    if (waiting().length) timer = setTimeout(look, pause);
  }

  document.addEventListener("film-stored", async (event) => {
    const number = event.detail;
    if (!("takesNew" in table.dataset) && !document.getElementById(`study-${number}`)) return;
    try {
      (await ask([number], false)).forEach(place);
    } catch {
      // The study is stored all the same; the next load of the page shows it.
    }
    pause = FIRST_PAUSE;
    later();
  });
  addEventListener("pageshow", (event) => {
    if (event.persisted) {
      pause = FIRST_PAUSE;
      later();
    }
  });
  later();
})();
