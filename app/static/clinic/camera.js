// The camera: a frame to align the film, hints while one aims, a photograph, and what the program
// says of it before it goes in by the usual door. Without a camera the plain form stays.
"use strict";

(() => {
  const HINT_EVERY = 400;
  const HINT_SIDE = 128;
  const VERDICT_SIDE = 1280;
  // Grey levels, and mean size of the Laplacian in deviations: above what app/cxr/quality.py refuses.
  const DARK = 45;
  const MOST_WHITE = 0.45;
  const LEAST_SHARPNESS = 0.06;

  const by = (id) => document.getElementById(id);
  const form = by("photograph");
  const words = form.dataset;
  const [stage, view, video, frame, picture] = ["stage", "view", "video", "frame", "picture"].map(by);
  const [hint, controls, review, verdict, problem] = ["hint", "controls", "review", "verdict", "problem"].map(by);
  const [shutter, turn, torch, use, again, why, file, films] =
    ["shutter", "turn", "torch", "use", "again", "why", "file", "films"].map(by);
  const small = document.createElement("canvas");

  /** @type {MediaStream | null} */
  let stream = null;
  /** What goes in: a photograph that was taken, or a file that was chosen. @type {File | null} */
  let photograph = null;
  let hints = 0;
  let asked = 0;

  async function start() {
    if (!navigator.mediaDevices?.getUserMedia) return without(isSecureContext ? words.wordsNone : words.wordsInsecure);
    stage.hidden = false;
    shutter.disabled = true;
    say(words.wordsStarting);
    try {
      stream = await navigator.mediaDevices.getUserMedia({
        audio: false,
        video: { facingMode: { ideal: "environment" }, width: { ideal: 3840 }, height: { ideal: 2160 } },
      });
      video.srcObject = stream;
      await video.play();
    } catch (error) {
      stop();
      return without({ NotAllowedError: words.wordsDenied, NotFoundError: words.wordsNone }[error.name] ?? words.wordsBusy);
    }
    const [track] = stream.getVideoTracks();
    track.addEventListener("ended", () => without(words.wordsBusy));
    torch.hidden = !track.getCapabilities?.().torch;
    aim();
  }

  function stop() {
    clearInterval(hints);
    stream?.getTracks().forEach((track) => track.stop());
    stream = null;
  }

  /** The camera is not to be had: say why, and leave the form. */
  function without(sentence) {
    stage.hidden = true;
    why.textContent = sentence;
    why.hidden = false;
  }

  function aim() {
    asked += 1;
    photograph = null;
    films.value = "";
    stage.hidden = !stream;
    review.hidden = verdict.hidden = problem.hidden = picture.hidden = true;
    frame.hidden = controls.hidden = file.hidden = video.hidden = false;
    shutter.disabled = false;
    clearInterval(hints);
    if (stream) hints = setInterval(look, HINT_EVERY);
    say(stream ? words.wordsAlign : "");
  }

  function say(sentence) {
    if (hint.textContent !== sentence) hint.textContent = sentence;
  }

  /** Where the frame lies on what the camera sends, in its pixels; the video covers its box. */
  function framed() {
    const box = view.getBoundingClientRect();
    const inside = frame.getBoundingClientRect();
    const scale = Math.max(box.width / video.videoWidth, box.height / video.videoHeight);
    const left = (video.videoWidth * scale - box.width) / 2 + inside.left - box.left;
    const top = (video.videoHeight * scale - box.height) / 2 + inside.top - box.top;
    return [left / scale, top / scale, inside.width / scale, inside.height / scale].map(Math.round);
  }

  /** A hint of what is wrong with what the frame shows now. */
  function look() {
    if (!video.videoWidth || document.hidden) return;
    const [x, y, wide, high] = framed();
    small.width = small.height = HINT_SIDE;
    const context = small.getContext("2d", { willReadFrequently: true });
    context.imageSmoothingQuality = "high";
    context.drawImage(video, x, y, wide, high, 0, 0, HINT_SIDE, HINT_SIDE);
    const complaint = complaintAbout(greys(context.getImageData(0, 0, HINT_SIDE, HINT_SIDE).data));
    frame.classList.toggle("shot__frame--good", !complaint);
    say(complaint || words.wordsGood);
  }

  function greys(pixels) {
    const found = new Float32Array(pixels.length / 4);
    for (let at = 0; at < found.length; at += 1)
      found[at] = 0.299 * pixels[4 * at] + 0.587 * pixels[4 * at + 1] + 0.114 * pixels[4 * at + 2];
    return found;
  }

  function complaintAbout(grey) {
    let sum = 0;
    let squares = 0;
    let white = 0;
    for (const value of grey) {
      sum += value;
      squares += value * value;
      white += value >= 250;
    }
    const mean = sum / grey.length;
    if (mean < DARK) return words.wordsDark;
    if (white / grey.length > MOST_WHITE) return words.wordsGlare;
    const deviation = Math.sqrt(Math.max(0, squares / grey.length - mean * mean));
    return edges(grey) / (deviation + 0.001) < LEAST_SHARPNESS ? words.wordsBlurred : "";
  }

  function edges(grey) {
    let sum = 0;
    let count = 0;
    for (let row = 1; row < HINT_SIDE - 1; row += 1)
      for (let column = 1; column < HINT_SIDE - 1; column += 1) {
        const at = row * HINT_SIDE + column;
        const around = grey[at - 1] + grey[at + 1] + grey[at - HINT_SIDE] + grey[at + HINT_SIDE];
        sum += Math.abs(4 * grey[at] - around);
        count += 1;
      }
    return sum / count;
  }

  async function take() {
    const [x, y, wide, high] = framed();
    picture.width = wide;
    picture.height = high;
    picture.getContext("2d").drawImage(video, x, y, wide, high, 0, 0, wide, high);
    const content = await blobOf(picture, 0.93);
    await judge(new File([content], nameOfNow(), { type: "image/jpeg" }));
  }

  /** A photograph that the phone's own camera took, or one that was there. */
  async function choose() {
    const [chosen] = films.files;
    if (!chosen) return;
    try {
      const drawn = await createImageBitmap(chosen);
      picture.width = drawn.width;
      picture.height = drawn.height;
      picture.getContext("2d").drawImage(drawn, 0, 0);
      drawn.close();
    } catch {
      picture.width = picture.height = 0;
    }
    await judge(chosen);
  }

  /** Show what would go in, and ask the program what it thinks of it. */
  async function judge(content) {
    const question = ++asked;
    photograph = content;
    clearInterval(hints);
    stage.hidden = review.hidden = verdict.hidden = picture.hidden = false;
    frame.hidden = controls.hidden = file.hidden = video.hidden = problem.hidden = why.hidden = true;
    say("");
    if (!picture.width) return show(words.wordsUnreadable, null);
    show(words.wordsJudging, null);
    use.focus();
    const said = await ask();
    if (question === asked) show(said.sentence, said.usable);
  }

  async function ask() {
    const body = new FormData();
    body.append("photograph", await blobOf(smaller(), 0.9), "photograph.jpg");
    try {
      const response = await fetch(words.verdict, { method: "POST", body, headers: headers() });
      const said = response.headers.get("Content-Type")?.includes("json") ? await response.json() : {};
      const sentence = said.sentence ?? said.error ?? (response.status === 403 ? words.wordsTooOld : words.wordsNotJudged);
      return { usable: said.usable ?? null, sentence };
    } catch {
      return { usable: null, sentence: words.wordsNotJudged };
    }
  }

  function smaller() {
    const scale = Math.min(1, VERDICT_SIDE / Math.max(picture.width, picture.height));
    small.width = Math.max(1, Math.round(picture.width * scale));
    small.height = Math.max(1, Math.round(picture.height * scale));
    const context = small.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(picture, 0, 0, small.width, small.height);
    return small;
  }

  function show(sentence, usable) {
    const kind = usable === null ? "" : usable ? "photograph__verdict--usable" : "photograph__verdict--not";
    verdict.hidden = false;
    verdict.className = `photograph__verdict ${kind}`;
    verdict.textContent = sentence;
    // What cannot be read is better taken again; it is still for the person to say.
    use.classList.toggle("button--main", usable !== false);
    again.classList.toggle("button--main", usable === false);
  }

  async function send() {
    const body = new FormData(form);
    body.delete("films");
    body.append("films", photograph, photograph.name);
    use.disabled = true;
    problem.hidden = true;
    show(words.wordsSending, null);
    try {
      const response = await fetch(form.action, { method: "POST", body, headers: headers() });
      const told = response.headers.get("Content-Type")?.includes("json") ? await response.json() : {};
      const film = told.films?.[0];
      if (film?.url && !film.error) return location.assign(film.url);
      complain(film?.error ?? told.error ?? (response.status === 403 ? words.wordsTooOld : words.wordsFailed));
    } catch {
      complain(words.wordsLost);
    }
  }

  function complain(sentence) {
    verdict.hidden = true;
    problem.textContent = sentence;
    problem.hidden = false;
    use.disabled = false;
  }

  function headers() {
    return { Accept: "application/json", "X-CSRFToken": form.elements.csrfmiddlewaretoken.value };
  }

  function blobOf(canvas, quality) {
    return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", quality));
  }

  function nameOfNow() {
    const two = (number) => String(number).padStart(2, "0");
    const now = new Date();
    const day = `${now.getFullYear()}${two(now.getMonth() + 1)}${two(now.getDate())}`;
    return `photograph-${day}-${two(now.getHours())}${two(now.getMinutes())}${two(now.getSeconds())}.jpg`;
  }

  shutter.addEventListener("click", () => {
    shutter.disabled = true;
    take();
  });
  again.addEventListener("click", () => {
    aim();
    if (stream) shutter.focus();
    else films.focus();
  });
  films.addEventListener("change", choose);
  turn.addEventListener("click", () => {
    const across = frame.classList.toggle("shot__frame--across");
    turn.setAttribute("aria-pressed", String(across));
  });
  torch.addEventListener("click", async () => {
    const on = torch.getAttribute("aria-pressed") !== "true";
    await stream?.getVideoTracks()[0].applyConstraints({ advanced: [{ torch: on }] });
    torch.setAttribute("aria-pressed", String(on));
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (photograph) send();
    else if (!stream) films.click();
  });
  addEventListener("pagehide", stop);
  addEventListener("pageshow", (event) => {
    if (event.persisted) start();
  });
  start();
})();
