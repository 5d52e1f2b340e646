// Films go in one request each, a few at a time; a file that fails never stops the others.
"use strict";

(() => {
  const AT_ONCE = 3;
  const form = document.getElementById("upload");
  const input = document.getElementById("films");
  const veil = document.getElementById("veil");
  const batch = document.getElementById("batch");
  const line = document.getElementById("batch-line");
  const bar = document.getElementById("batch-progress");
  const list = document.getElementById("batch-files");
  const words = form.dataset;

  /** @typedef {{file: File, age: string, unit: string, item: HTMLElement, state: string, sent: number}} Sending */
  /** @type {Sending[]} */
  let sendings = [];

  /** @param {Iterable<File>} files */
  function put(files) {
    const chosen = [...files];
    if (!chosen.length) return;
    if (!sendings.some(unfinished)) forget();
    const age = form.elements.age.value;
    const unit = form.elements.age_unit.value;
    for (const file of chosen) {
      const item = document.createElement("li");
      const sending = { file, age, unit, item, state: "waiting", sent: 0 };
      sendings.push(sending);
      show(sending);
      list.append(item);
    }
    // The next films are another patient's until somebody says otherwise.
    form.reset();
    open(true);
    goOn();
  }

  function goOn() {
    let free = AT_ONCE - sendings.filter((one) => one.state === "sending").length;
    for (const sending of sendings) {
      if (free > 0 && sending.state === "waiting") {
        free -= 1;
        send(sending);
      }
    }
    sum();
  }

  /** @param {Sending} sending */
  function send(sending) {
    const { file } = sending;
    if (file.size > Number(words.mostBytes)) return fail(sending, words.wordsTooLarge);
    const body = new FormData();
    body.append("csrfmiddlewaretoken", form.elements.csrfmiddlewaretoken.value);
    body.append("age", sending.age);
    body.append("age_unit", sending.unit);
    body.append("films", file, file.name);
    // fetch cannot say how much of a request has gone out; XMLHttpRequest can.
    const request = new XMLHttpRequest();
    request.open("POST", form.action);
    request.setRequestHeader("Accept", "application/json");
    request.responseType = "json";
    request.upload.onprogress = (event) => {
      sending.sent = event.lengthComputable ? event.loaded / event.total : 0;
      const own = sending.item.querySelector("progress");
      if (own) own.value = sending.sent;
      sum();
    };
    request.onload = () => answered(sending, request);
    request.onerror = () => lost(sending);
    sending.state = "sending";
    sending.sent = 0;
    show(sending);
    request.send(body);
  }

  /** @param {Sending} sending @param {XMLHttpRequest} request */
  function answered(sending, request) {
    const film = request.response?.films?.[0];
    const error = film ? film.error : request.response?.error;
    if (request.status === 413) return fail(sending, words.wordsTooLarge);
    if (request.status === 403) return fail(sending, error || words.wordsReload);
    if (error || !film) return fail(sending, error || words.wordsFailed);
    sending.state = "stored";
    if (sendings.length === 1) return location.assign(film.url);
    show(sending, film);
    document.dispatchEvent(new CustomEvent("film-stored", { detail: film.study }));
    goOn();
  }

  /** Nothing came back: the program is gone, or the browser could not read the file. */
  async function lost(/** @type {Sending} */ sending) {
    let readable = true;
    try {
      await sending.file.slice(0, 1).arrayBuffer();
    } catch {
      readable = false;
    }
    fail(sending, readable ? words.wordsLost : words.wordsNotRead);
  }

  /** @param {Sending} sending @param {string} sentence */
  function fail(sending, sentence) {
    sending.state = "failed";
    show(sending, { error: sentence });
    goOn();
  }

  /** @param {Sending} sending @param {{study?: string, url?: string, duplicate?: boolean, error?: string}} [outcome] */
  function show(sending, outcome = {}) {
    const { item, state } = sending;
    item.className = `sent sent--${state}`;
    const name = element("span", "sent__name", "");
    name.append(element("bdi", "", sending.file.name));
    name.title = sending.file.name;
    item.replaceChildren(name, mark(sending, outcome));
    if (outcome.error) item.append(element("span", "sent__error", outcome.error));
  }

  function mark(sending, outcome) {
    if (sending.state === "sending") {
      const progress = element("progress", "", "");
      progress.max = 1;
      progress.value = sending.sent;
      progress.setAttribute("aria-label", sending.file.name);
      return progress;
    }
    if (sending.state === "stored") {
      const link = element("a", "", outcome.duplicate ? words.wordsKnown : words.wordsStored);
      link.href = outcome.url;
      return link;
    }
    if (sending.state === "failed") {
      const again = element("button", "button", words.wordsRetry);
      again.type = "button";
      again.setAttribute("aria-label", `${words.wordsRetry}: ${sending.file.name}`);
      again.addEventListener("click", () => {
        sending.state = "waiting";
        show(sending);
        goOn();
      });
      return again;
    }
    return element("span", "sent__state", words.wordsWaiting);
  }

  /** The whole batch in one line and one bar. */
  function sum() {
    const stored = sendings.filter((one) => one.state === "stored").length;
    const failed = sendings.filter((one) => one.state === "failed").length;
    const parts = [words.wordsProgress.replace("{done}", stored).replace("{all}", sendings.length)];
    if (failed) parts.push(words.wordsProblems.replace("{failed}", failed));
    const text = parts.join(" · ");
    if (line.textContent !== text) line.textContent = text;
    const moving = sendings.filter((one) => one.state === "sending");
    const done = stored + failed + moving.reduce((sum, one) => sum + one.sent, 0);
    bar.value = sendings.length ? done / sendings.length : 0;
  }

  function unfinished(sending) {
    return sending.state === "waiting" || sending.state === "sending" || sending.state === "failed";
  }

  function forget() {
    sendings = [];
    list.replaceChildren();
    open(false);
  }

  /** @param {boolean} shown */
  function open(shown) {
    batch.hidden = !shown;
    batch.parentElement.classList.toggle("door--busy", shown);
  }

  function element(tag, name, text) {
    const made = document.createElement(tag);
    if (name) made.className = name;
    made.textContent = text;
    return made;
  }

  input.addEventListener("change", () => put(input.files));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    // Enter, here or in the age, goes on to the choice of films.
    if (input.files.length) put(input.files);
    else input.click();
  });
  document.getElementById("batch-close").addEventListener("click", () => {
    sendings = sendings.filter((one) => one.state === "waiting" || one.state === "sending");
    list.replaceChildren(...sendings.map((one) => one.item));
    open(sendings.length > 0);
    sum();
  });

  // The whole page takes a drop: a film let go beside the zone must not replace the program.
  const holdsFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  let depth = 0;
  addEventListener("dragenter", (event) => {
    if (!holdsFiles(event)) return;
    depth += 1;
    veil.hidden = false;
  });
  addEventListener("dragleave", (event) => {
    if (!holdsFiles(event)) return;
    depth = Math.max(0, depth - 1);
    veil.hidden = depth === 0;
  });
  addEventListener("dragover", (event) => {
    if (holdsFiles(event)) event.preventDefault();
  });
  addEventListener("drop", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    depth = 0;
    veil.hidden = true;
    put(event.dataTransfer.files);
  });
  addEventListener("beforeunload", (event) => {
    if (sendings.some((one) => one.state === "waiting" || one.state === "sending")) event.preventDefault();
  });
})();
