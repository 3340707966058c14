// What every page does: sign out.

import { call } from "./api.js";

document.getElementById("sign-out")?.addEventListener("click", async () => {
  try {
    await call("DELETE", "/session");
  } finally {
    location.assign("/sign-in");
  }
});
