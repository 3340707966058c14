// What the page does, as code that runs when it is pasted: examples and all, or by the model's id where they are large.

const LARGE = 64 * 1024; // characters of examples that still belong into a snippet

/**
 * `lesson`: {url, keyed, reference, model, examples: [{value, label}], input (or null), rejectBelow}.
 * Python through the SDK, `pip install kshot`.
 */
export function pythonOf(lesson) {
  const { url, reference, model, examples, rejectBelow } = lesson;
  const query = `[${JSON.stringify(queryOf(lesson))}]${rejectBelow > 0 ? `, reject_below=${rejectBelow}` : ""}`;
  const taught = isLarge(examples)
    ? [`model = client.model(${JSON.stringify(model.id)})  # taught in the playground; it expires ${model.expires_at}`]
    : [
        "examples = [",
        ...examples.map(({ label, value }) => `    (${JSON.stringify(label)}, ${JSON.stringify(value)}),`),
        "]",
        `model = client.adapt(${JSON.stringify(reference)}, [value for _, value in examples], [label for label, _ in examples])`,
      ];
  return [
    "from kshot.client import Client  # pip install kshot",
    "",
    `client = Client(${JSON.stringify(url)})${lesson.keyed ? "  # reads your API key from KSHOT_KEY" : ""}`,
    ...taught,
    `answer = model.predict(${query})`,
    "print(answer.labels, answer.probabilities)",
    "",
  ].join("\n");
}

/** A shell command: one call that teaches and answers. */
export function curlOf(lesson) {
  const { url, reference, model, examples, rejectBelow } = lesson;
  const input = queryOf(lesson);
  const reject = rejectBelow > 0 ? { reject_below: rejectBelow } : {};
  const support = { inputs: examples.map(({ value }) => value), labels: examples.map(({ label }) => label) };
  if (isLarge(examples)) return shell(lesson, `${url}/v1/predict`, { model: model.id, inputs: [input], ...reject });
  if (rejectBelow > 0) return shell(lesson, `${url}/v1/predict`, { checkpoint: reference, support, inputs: [input], ...reject });
  return shell(lesson, `${url}/v1/adapt`, { checkpoint: reference, support, query: { inputs: [input] } });
}

function shell({ keyed }, address, body) {
  return [
    `curl -sS ${address} \\`,
    ...(keyed ? ['  -H "Authorization: Bearer $KSHOT_KEY" \\'] : []),
    "  -H 'Content-Type: application/json' --data-binary @- <<'JSON'",
    JSON.stringify(body, null, 1).replace(/\[\s+(-?[\d.e+-]+(?:,\s+-?[\d.e+-]+)*)\s+\]/g, (_, row) => `[${row.replace(/\s+/g, " ")}]`),
    "JSON",
    "",
  ].join("\n");
}

/** What was asked last; before anything was, the first example. */
function queryOf({ input, examples }) {
  return input ?? examples[0].value;
}

function isLarge(examples) {
  return JSON.stringify(examples.map(({ value }) => value)).length > LARGE;
}
