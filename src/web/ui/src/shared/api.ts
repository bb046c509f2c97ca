/** Calls to the daemons' public HTTP APIs: the pages use nothing else. */

/** A refusal of the API, with what it said. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly details: string,
  ) {
    super(message);
  }
}

interface Refusal {
  message?: string;
  details?: string | { path: string; errors: string[] }[];
}

function detailsOf(refusal: Refusal): string {
  if (typeof refusal.details === "string") return refusal.details;
  return (refusal.details ?? []).map((one) => `${one.path}: ${one.errors.join("; ")}`).join("\n");
}

/** Another daemon answers this: a page may not read from there, but may go there. */
export class Elsewhere extends Error {}

/** Calls the API; the answer's JSON, or undefined where it has none. */
export async function call<T>(method: string, url: string, body?: unknown): Promise<T> {
  const init: RequestInit = { method, headers: { Accept: "application/json" }, redirect: "manual" };
  if (body !== undefined) {
    init.headers = { ...init.headers, "Content-Type": "application/json" };
    init.body = JSON.stringify(body);
  }
  const answer = await fetch(url, init);
  if (answer.type === "opaqueredirect") throw new Elsewhere("Another one leads.");
  const text = await answer.text();
  if (!answer.ok) {
    let refusal: Refusal = {};
    try {
      refusal = JSON.parse(text) as Refusal;
    } catch {
      // Plain text: shown as it is.
    }
    throw new ApiError(answer.status, refusal.message ?? (text || answer.statusText), detailsOf(refusal));
  }
  return (text ? JSON.parse(text) : undefined) as T;
}

/** Reads JSON. */
export const get = <T>(url: string): Promise<T> => call<T>("GET", url);
