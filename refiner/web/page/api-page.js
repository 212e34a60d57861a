// Shows the server's OpenAPI description.

import { element } from "./shared.js";

const description = await (await fetch("api/openapi.json")).json();
document.getElementById("about").textContent = description.info.description;

function operation(method, path, { summary, requestBody }) {
  const body = requestBody?.content["application/json"]?.schema;
  return element("details", { className: "operation" },
    element("summary", {}, element("kbd", { textContent: method.toUpperCase() }), " ", element("code", { textContent: path }), element("span", { textContent: ` ${summary}` })),
    element("pre", { textContent: body ? JSON.stringify(body, null, 2) : requestBody ? "The file's bytes." : "Takes no body." }));
}

const rows = Object.entries(description.paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, what]) => operation(method, path, what)));
document.getElementById("operations").append(...rows);
