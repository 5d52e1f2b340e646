"use strict";
const again = document.getElementById("again");
again.addEventListener("submit", () => {
  const button = document.querySelector("[form=again]");
  button.textContent = button.dataset.busy;
  button.disabled = true;
});
// While this page is open, the program stays
setInterval(() => fetch("/healthz").catch(() => {}), 20000);
