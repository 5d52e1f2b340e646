// Films go in one request each, two at a time; a file that fails never stops the others, and what is
// not sent yet outlives a lost connection, a program that was restarted and a log-in that ran out.
"use strict";

(() => {
  const AT_ONCE = 2;
  // Of a program that does answer: one that is away is waited for without end.
  const MOST_LOSSES = 4;
  const FIRST_PAUSE = 500;
  const LONGEST_PAUSE = 15_000;
  const LOG_IN_PAUSE = 3000;
  // No byte moved for so long: the connection is gone, though nothing said so.
  const SILENCE = 60_000;
  // Thousands of lines would freeze the page: the last stored ones are kept, and the first failed.
  const STORED_SHOWN = 30;
  const FAILED_SHOWN = 100;
  const FOUND_AT_ONCE = 100;
  const NOT_FILMS = /^(\.|__MACOSX$|Thumbs\.db$|desktop\.ini$)/i;

  const form = document.getElementById("upload");
  const veil = document.getElementById("veil");
  const batch = document.getElementById("batch");
  const line = document.getElementById("batch-line");
  const bar = document.getElementById("batch-progress");
  const list = document.getElementById("batch-files");
  const notice = document.getElementById("batch-hold");
  const words = form.dataset;

  /** @typedef {{file: File, age: string, unit: string, item: HTMLElement | null, sent: number, losses: number, renewed: boolean}} Sending */
  /** @type {Sending[]} */
  let waiting = [];
  /** @type {Set<Sending>} */
  const moving = new Set();
  /** @type {Set<Sending>} */
  const failed = new Set();
  /** @type {HTMLElement[]} */
  let storedItems = [];
  let stored = 0;
  let stopped = 0;
  let looking = 0;
  /** Why nothing is sent at the moment: "", "away" or "logged-out". */
  let hold = "";
  let pause = FIRST_PAUSE;
  let timer = 0;

  const all = () => waiting.length + moving.size + failed.size + stored + stopped;
  const unsent = () => waiting.length > 0 || moving.size > 0 || looking > 0;

  /** The age goes with the films that are put in with it; the next ones are another patient's. */
  function takeAge() {
    const taken = { age: form.elements.age?.value ?? "", unit: form.elements.age_unit?.value ?? "" };
    form.reset();
    return taken;
  }

  /** @param {Iterable<File>} files @param {{age: string, unit: string}} age */
  function put(files, age) {
    const chosen = [...files];
    if (!chosen.length) return;
    begin();
    for (const file of chosen) waiting.push({ file, ...age, item: null, sent: 0, losses: 0, renewed: false });
    goOn();
  }

  function begin() {
    if (!unsent() && !failed.size) forget();
    open(true);
  }

  function goOn() {
    while (!hold && moving.size < AT_ONCE && waiting.length) {
      const next = waiting.shift();
      if (next.file.size > Number(words.mostBytes)) refuse(next, words.wordsTooLarge);
      else if (next.file.unreadable) refuse(next, words.wordsNotRead);
      else send(next);
    }
    sum();
  }

  /** @param {Sending} sending */
  function send(sending) {
    const { file } = sending;
    const body = new FormData();
    for (const name of ["csrfmiddlewaretoken", "study", "patient", "order"]) {
      if (form.elements[name]) body.append(name, form.elements[name].value);
    }
    body.append("age", sending.age);
    body.append("age_unit", sending.unit);
    body.append("films", file, file.name);
    // fetch cannot say how much of a request has gone out; XMLHttpRequest can.
    const request = new XMLHttpRequest();
    let silence = 0;
    const heard = () => {
      clearTimeout(silence);
      silence = setTimeout(() => request.abort(), SILENCE);
    };
    request.open("POST", form.action);
    request.setRequestHeader("Accept", "application/json");
    request.responseType = "json";
    request.upload.onprogress = (event) => {
      heard();
      sending.sent = event.lengthComputable ? event.loaded / event.total : 0;
      const own = sending.item?.querySelector("progress");
      if (own) own.value = sending.sent;
      sum();
    };
    request.onload = () => answered(sending, request);
    request.onerror = request.onabort = () => lost(sending);
    request.onloadend = () => clearTimeout(silence);
    sending.sent = 0;
    moving.add(sending);
    show(sending, "sending");
    heard();
    request.send(body);
  }

  /** @param {Sending} sending @param {XMLHttpRequest} request */
  function answered(sending, request) {
    const film = request.response?.films?.[0];
    const error = film ? film.error : request.response?.error;
    if (request.status === 401) return waitFor("logged-out", sending);
    if (request.status === 403) return renew(sending);
    if (request.status === 413) return fail(sending, words.wordsTooLarge);
    if (error || !film) return fail(sending, error || words.wordsFailed);
    moving.delete(sending);
    stored += 1;
    pause = FIRST_PAUSE;
    // Stored by a request whose answer was lost: that is no film that was here before.
    if (sending.losses && film.duplicate) Object.assign(film, { duplicate: false, url: film.url.replace("?again", "") });
    if (all() === 1 && !looking) return location.assign(film.url);
    show(sending, "stored", film);
    document.dispatchEvent(new CustomEvent("film-stored", { detail: film.study }));
    goOn();
  }

  /** The page's token is too old, for example after a log-in in another tab: get another, once. */
  async function renew(/** @type {Sending} */ sending) {
    if (sending.renewed) return fail(sending, words.wordsReload);
    sending.renewed = true;
    const status = await freshToken();
    if (status === 200) {
      giveBack(sending);
      return goOn();
    }
    if (status === 401) return waitFor("logged-out", sending);
    if (status === 403) return fail(sending, words.wordsForbidden);
    lost(sending);
  }

  /** @returns {Promise<number>} the status of the answer, 0 where there was none */
  async function freshToken() {
    try {
      const response = await fetch(form.action, { headers: { Accept: "application/json" }, signal: AbortSignal.timeout(LONGEST_PAUSE) });
      if (response.ok) form.elements.csrfmiddlewaretoken.value = (await response.json()).token;
      return response.status;
    } catch {
      return 0;
    }
  }

  /** Nothing came back: the program is gone, or the browser could not read the file. */
  async function lost(/** @type {Sending} */ sending) {
    try {
      await sending.file.slice(0, 1).arrayBuffer();
    } catch {
      return fail(sending, words.wordsNotRead);
    }
    sending.losses += 1;
    if (sending.losses >= MOST_LOSSES) return fail(sending, words.wordsLost);
    waitFor("away", sending);
  }

  /** @param {"away" | "logged-out"} reason @param {Sending} sending */
  function waitFor(reason, sending) {
    giveBack(sending);
    if (!hold) {
      hold = reason;
      timer = setTimeout(probe, reason === "away" ? pause : LOG_IN_PAUSE);
      tellHold();
    }
    sum();
  }

  /** First in line again. */
  function giveBack(/** @type {Sending} */ sending) {
    moving.delete(sending);
    sending.item?.remove();
    sending.item = null;
    waiting.unshift(sending);
  }

  async function probe() {
    clearTimeout(timer);
    if (!hold) return;
    const back = hold === "away" ? await alive() : (await freshToken()) === 200;
    if (!hold) return;
    if (back) {
      hold = "";
      pause = Math.min(pause * 2, LONGEST_PAUSE);
      tellHold();
      return goOn();
    }
    if (hold === "away") pause = Math.min(pause * 2, LONGEST_PAUSE);
    timer = setTimeout(probe, hold === "away" ? pause : LOG_IN_PAUSE);
  }

  async function alive() {
    try {
      return (await fetch(words.alive, { cache: "no-store", signal: AbortSignal.timeout(LONGEST_PAUSE) })).ok;
    } catch {
      return false;
    }
  }

  function tellHold() {
    notice.hidden = !hold;
    notice.replaceChildren(hold === "away" ? words.wordsAway : hold ? words.wordsLoggedOut : "");
    if (hold !== "logged-out") return;
    const link = element("a", "", words.wordsLogIn);
    link.href = location.href;
    link.target = "_blank";
    notice.append(link);
  }

  /** @param {Sending} sending @param {string} sentence */
  function fail(sending, sentence) {
    refuse(sending, sentence);
    goOn();
  }

  function refuse(sending, sentence) {
    moving.delete(sending);
    failed.add(sending);
    if (failed.size <= FAILED_SHOWN) show(sending, "failed", { error: sentence });
    else sending.item?.remove();
  }

  /** @param {Sending[]} sendings */
  function again(sendings) {
    for (const sending of sendings.reverse()) {
      failed.delete(sending);
      Object.assign(sending, { losses: 0, renewed: false });
      giveBack(sending);
    }
    goOn();
  }

  /** @param {Sending} sending @param {string} state @param {{study?: string, url?: string, duplicate?: boolean, error?: string}} [outcome] */
  function show(sending, state, outcome = {}) {
    const item = (sending.item ??= document.createElement("li"));
    item.className = `sent sent--${state}`;
    const name = element("span", "sent__name", "");
    name.append(element("bdi", "", sending.file.name));
    name.title = sending.file.name;
    item.replaceChildren(name, mark(sending, state, outcome));
    if (outcome.error) item.append(element("span", "sent__error", outcome.error));
    if (!item.isConnected) list.prepend(item);
    if (state !== "stored") return;
    storedItems.push(item);
    if (storedItems.length > STORED_SHOWN) storedItems.shift().remove();
  }

  function mark(sending, state, outcome) {
    if (state === "sending") {
      const progress = element("progress", "", "");
      progress.max = 1;
      progress.value = sending.sent;
      progress.setAttribute("aria-label", sending.file.name);
      return progress;
    }
    if (state === "stored") {
      const link = element("a", "", outcome.duplicate ? words.wordsKnown : words.wordsStored);
      link.href = outcome.url;
      return link;
    }
    const retry = element("button", "button", words.wordsRetry);
    retry.type = "button";
    retry.setAttribute("aria-label", `${words.wordsRetry}: ${sending.file.name}`);
    retry.addEventListener("click", () => again([sending]));
    return retry;
  }

  /** The whole batch in one line and one bar. */
  function sum() {
    const parts = [words.wordsProgress.replace("{done}", stored).replace("{all}", all())];
    if (looking) parts.unshift(words.wordsLooking);
    if (failed.size) parts.push(words.wordsProblems.replace("{failed}", failed.size));
    if (stopped) parts.push(words.wordsStopped.replace("{number}", stopped));
    tell(line, parts.join(" · "));
    let done = stored + failed.size + stopped;
    for (const one of moving) done += one.sent;
    bar.value = all() ? done / all() : 0;
    tell(document.getElementById("batch-waiting"), waiting.length ? words.wordsWaiting.replace("{number}", waiting.length) : "");
    tell(document.getElementById("batch-elsewhere"), unsent() && all() > 1 ? words.wordsElsewhere : "");
    document.getElementById("batch-stop").hidden = !waiting.length;
    document.getElementById("batch-again").hidden = failed.size < 2;
    document.getElementById("batch-close").hidden = unsent();
  }

  function tell(place, text) {
    if (place.textContent !== text) place.textContent = text;
    place.hidden = !text;
  }

  function stop() {
    stopped += waiting.length;
    waiting = [];
    if (!moving.size) hold = "";
    if (!hold) clearTimeout(timer);
    tellHold();
    sum();
  }

  function forget() {
    failed.clear();
    storedItems = [];
    stored = 0;
    stopped = 0;
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

  // --- Folders -----------------------------------------------------------------------------------

  /** The files of dropped folders, folder by folder; hidden ones and those of the system are left. */
  async function lookThrough(folders, age) {
    looking += 1;
    begin();
    sum();
    const before = all();
    let found = [];
    const rest = [...folders].reverse();
    while (rest.length) {
      for (const entry of await entriesOf(rest.pop())) {
        if (NOT_FILMS.test(entry.name)) continue;
        if (entry.isDirectory) rest.push(entry);
        else found.push(await fileOf(entry));
        if (found.length >= FOUND_AT_ONCE) {
          put(found, age);
          found = [];
        }
      }
    }
    looking -= 1;
    put(found, age);
    sum();
    if (all() === before && !looking) tell(line, words.wordsNoFiles);
  }

  async function entriesOf(folder) {
    const reader = folder.createReader();
    const entries = [];
    try {
      for (;;) {
        const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
        if (!some.length) break;
        entries.push(...some);
      }
    } catch {
      // What could be read of it goes in; a stick that was pulled out says so at each of its files
    }
    return entries.sort((one, other) => one.name.localeCompare(other.name, undefined, { numeric: true }));
  }

  /** An entry that cannot be read any more comes out as a file that says so when its turn comes. */
  function fileOf(entry) {
    return new Promise((resolve) => entry.file(resolve, () => resolve({ name: entry.name, size: 0, unreadable: true })));
  }

  /** @param {DataTransfer} transfer */
  function dropped(transfer) {
    const files = [];
    const folders = [];
    // All at once: after the event the list is empty
    for (const item of transfer.items) {
      const entry = item.webkitGetAsEntry?.();
      if (entry?.isDirectory) folders.push(entry);
      else if (item.kind === "file") files.push(item.getAsFile());
    }
    const age = takeAge();
    put(files, age);
    if (folders.length) lookThrough(folders, age);
  }

  // --- What people do ----------------------------------------------------------------------------

  for (const input of [document.getElementById("films"), document.getElementById("folder")]) {
    input.addEventListener("change", () => {
      const parts = (file) => (file.webkitRelativePath || "").split("/");
      put([...input.files].filter((file) => !parts(file).some((part) => NOT_FILMS.test(part))), takeAge());
      input.value = "";
    });
  }
  if ("webkitdirectory" in document.createElement("input")) document.querySelector(".folder").hidden = false;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    // Enter, in the age for example, goes on to the choice of films.
    document.getElementById("films").click();
  });
  document.getElementById("batch-again").addEventListener("click", () => again([...failed]));
  document.getElementById("batch-stop").addEventListener("click", stop);
  document.addEventListener("stop-sending", stop);
  document.getElementById("batch-close").addEventListener("click", forget);

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
    dropped(event.dataTransfer);
  });
  addEventListener("beforeunload", (event) => {
    if (unsent()) event.preventDefault();
  });
  addEventListener("online", probe);
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) probe();
  });

  // While films are on their way, whatever would leave the page opens beside it.
  function aside(/** @type {HTMLAnchorElement | HTMLFormElement | null} */ leaving) {
    if (!leaving || !unsent() || leaving.target) return;
    leaving.target = "_blank";
    setTimeout(() => leaving.removeAttribute("target"));
  }
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href]");
    if (link && !link.getAttribute("href").startsWith("#") && !link.hasAttribute("download")) aside(link);
  }, true);
  document.addEventListener("submit", (event) => {
    if (event.target.method === "get") aside(event.target);
  }, true);
})();
