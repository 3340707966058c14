// An API key in, a session's cookie out. The key is not kept in the browser.

import { call } from "../api.js";
import { onSubmit } from "../forms.js";

const form = document.getElementById("sign-in");
if (form) {
  onSubmit(form, async (data) => {
    await call("POST", "/session", { key: data.get("key").trim() });
    location.assign(form.dataset.onward);
  });
  form.elements.key.focus();
}
