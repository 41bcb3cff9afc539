// Asks the server. Every failure is an Error with one line for people.

const KEY = "proxqa-key";

export function useKey(key) {
  sessionStorage.setItem(KEY, key);
}

export class WrongKey extends Error {}

async function send(path, options) {
  const key = sessionStorage.getItem(KEY);
  const headers = { ...options.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch {
    throw new Error("the server does not answer; is it still running?");
  }
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => null);
  const error = new (answer.status === 401 ? WrongKey : Error)(body?.error?.message ?? `the server says ${answer.status}`);
  error.code = body?.error?.code ?? "";
  throw error;
}

export async function get(path) {
  return (await send(path, {})).json();
}

export async function getFile(path) {
  return (await send(path, {})).blob();
}

// The address of an image for an <img>; give it to URL.revokeObjectURL when it is not shown any more.
export async function imageAddress(path) {
  return URL.createObjectURL(await getFile(path));
}

export async function post(path, body) {
  return sendJson("POST", path, body);
}

export async function put(path, body) {
  return sendJson("PUT", path, body);
}

async function sendJson(method, path, body) {
  const options = { method, body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
  return (await send(path, options)).json();
}

export async function sendImage(file) {
  const options = { method: "POST", body: file, headers: { "Content-Type": "application/octet-stream" } };
  return (await send("api/images", options)).json();
}
