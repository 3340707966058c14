// Filled in by the page's own room.

document.getElementById("content")?.removeAttribute("aria-busy");
