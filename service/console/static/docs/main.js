// Swagger UI over the service's own document. Whoever is signed in to the console can try calls without a key.

const dark = window.matchMedia("(prefers-color-scheme: dark)");
const paint = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", paint);
paint();

window.addEventListener("load", () => {
  window.SwaggerUIBundle({
    url: "/openapi.json",
    dom_id: "#swagger",
    deepLinking: true,
    tryItOutEnabled: true,
    onComplete: () => document.querySelector("#swagger main")?.setAttribute("role", "none"), // the page has one already
    requestInterceptor: (request) => {
      if (new URL(request.url, location.href).origin === location.origin) request.headers["X-Kshot-Console"] = "1";
      return request;
    },
  });
});
