// Requests to the server. Every failure is an Error whose message is one line to show.

import { t } from "./strings.js";

export class Refused extends Error {
  constructor(status, line, kind) {
    super(line);
    this.status = status;
    this.kind = kind;
  }
}

async function answered(response) {
  if (response.ok) return response.status === 204 ? null : response.json();
  const body = await response.json().catch(() => ({}));
  throw new Refused(response.status, body.error ?? t("failed", { status: response.status }), body.kind);
}

async function send(method, path, body, signal) {
  const json = body !== undefined && !(body instanceof Blob);
  const options = { method, signal, body: json ? JSON.stringify(body) : body };
  if (json) options.headers = { "content-type": "application/json" };
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    throw error.name === "AbortError" ? error : new Refused(0, t("lost"));
  }
  return answered(response);
}

export const get = (path) => send("GET", path);
export const post = (path, body = {}, signal = undefined) => send("POST", path, body, signal);
export const remove = (path) => send("DELETE", path);

/** Upload a file, telling how far it is from 0 to 1. */
export function upload(path, file, onProgress = () => {}) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest(); // fetch does not tell how far an upload is
    request.open("POST", path);
    request.setRequestHeader("content-type", "application/octet-stream");
    request.responseType = "json";
    request.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
    request.onload = () => {
      const { status, response } = request;
      if (status < 300) resolve(response);
      else reject(new Refused(status, response?.error ?? t("failed", { status }), response?.kind));
    };
    request.onerror = () => reject(new Refused(0, t("lost")));
    request.send(file);
  });
}
