// The administrator's name and password are asked for only where people log in.
"use strict";
(() => {
  const form = document.getElementById("set-up");
  const asked = ["username", "full_name", "password1", "password2"].map((name) => form.elements[name].closest(".field"));
  function show() {
    const single = form.elements.mode.value === "single_user";
    for (const field of asked) field.hidden = single;
  }
  form.addEventListener("change", show);
  show();
})();
