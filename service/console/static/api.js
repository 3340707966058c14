// The public API, as every page calls it. The cookie signs the calls; the header says that a page of ours made them.

const OWN = { "X-Kshot-Console": "1" };

/** An RFC 9457 answer. `errors` is a list of {param, message}; `status` 0: the server did not answer. */
export class Problem extends Error {
  constructor(body) {
    super(body.detail ?? body.title ?? "The request failed.");
    this.status = body.status ?? 0;
    this.code = body.code ?? "error";
    this.param = body.param ?? null;
    this.errors = body.errors ?? [];
    this.requestId = body.request_id ?? null;
    this.retryAfter = body.retryAfter ?? null; // seconds
  }
}

/** Ask and parse: `call("POST", "/adapt", {...})`. Null where the answer is empty. Throws Problem. */
export async function call(method, path, body, options = {}) {
  const response = await send(method, path, body, options);
  if (response.status === 204) return null;
  return response.json();
}

/**
 * The Response itself, for those who need its headers (ETag, Location). Throws Problem where it is not ok.
 * `body`: undefined, FormData, Blob or ArrayBuffer as they are, anything else as JSON.
 * `options`: {headers, signal}.
 */
export async function send(method, path, body, { headers = {}, signal } = {}) {
  const asIs = body === undefined || body instanceof FormData || body instanceof Blob || body instanceof ArrayBuffer;
  const type = asIs ? {} : { "Content-Type": "application/json" };
  let response;
  try {
    response = await fetch(path, {
      method,
      headers: { Accept: "application/json", ...OWN, ...type, ...headers },
      body: asIs ? body : JSON.stringify(body),
      signal,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw unreachable();
  }
  if (!response.ok) throw await problemOf(response);
  return response;
}

/** POST a form and hear how far it is: `onProgress(sent, total)` in bytes. Resolves to the parsed answer. */
export function upload(path, form, onProgress, { signal } = {}) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", path);
    for (const [name, value] of Object.entries({ Accept: "application/json", ...OWN })) {
      request.setRequestHeader(name, value);
    }
    request.upload.onprogress = (event) => onProgress(event.loaded, event.lengthComputable ? event.total : null);
    request.onerror = () => reject(unreachable());
    request.onabort = () => reject(new DOMException("aborted", "AbortError"));
    request.onload = () => {
      const body = parsed(request.responseText);
      if (request.status < 400) resolve(body);
      else reject(noted(new Problem({ status: request.status, ...body })));
    };
    signal?.addEventListener("abort", () => request.abort());
    request.send(form);
  });
}

/** All items of a list, page by page, newest first, at most `most`. */
export async function listAll(path, most = 500) {
  const items = [];
  let after = null;
  do {
    const query = new URLSearchParams({ limit: "100", ...(after ? { after } : {}) });
    const page = await call("GET", `${path}${path.includes("?") ? "&" : "?"}${query}`);
    items.push(...page.data);
    after = page.has_more ? page.last_id : null;
  } while (after !== null && items.length < most);
  return items;
}

/** The Problem of an answer that is not ok. A session that has ended leads to the sign-in page. */
export async function problemOf(response) {
  const body = parsed(await response.text());
  const retryAfter = Number(response.headers.get("Retry-After")) || null;
  return noted(new Problem({ status: response.status, retryAfter, ...body }));
}

function noted(problem) {
  if (problem.status === 401 && location.pathname !== "/sign-in" && location.pathname !== "/docs") {
    location.assign(`/sign-in?next=${encodeURIComponent(location.pathname + location.search)}`);
  }
  return problem;
}

function unreachable() {
  return new Problem({ status: 0, code: "unreachable", detail: "The server cannot be reached; is it running?" });
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return {};
  }
}
