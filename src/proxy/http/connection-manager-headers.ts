/** What the connection manager does to a response's headers before the codec writes them; reference 2.3. */
import type { HttpStream } from "./http-stream.ts";

let dateText = "";
let dateSecond = 0;

/** The Date header of this second. */
function currentDate(): string {
  const now = Date.now();
  const second = Math.floor(now / 1000);
  if (second !== dateSecond) {
    dateSecond = second;
    dateText = new Date(now).toUTCString();
  }
  return dateText;
}

/** Hot: one walk over the headers. */
export function finishResponseHeaders(stream: HttpStream): void {
  const { manager, info } = stream;
  const headers = info.responseHeaders;
  let hasDate = false;
  let serverAt = -1;
  let kept = 0;
  for (let i = 0; i < headers.length; i += 2) {
    const name = headers[i]!;
    if (name === "keep-alive" || name === "proxy-connection") continue;
    if (name === "date") hasDate = true;
    else if (name === "server") serverAt = kept;
    if (kept !== i) {
      headers[kept] = name;
      headers[kept + 1] = headers[i + 1]!;
    }
    kept += 2;
  }
  headers.length = kept;
  if (!hasDate) headers.push("date", currentDate());
  if (manager.serverTransformation !== "passThrough") {
    if (serverAt < 0) headers.push("server", manager.serverName);
    else if (manager.serverTransformation === "overwrite") headers[serverAt + 1] = manager.serverName;
  }
  if (manager.setsRequestIdInResponse) setRequestId(stream);
  if (manager.via !== "") appendVia(headers, manager.via);
  stream.connection.decideClose(stream);
}

function setRequestId(stream: HttpStream): void {
  const { requestHeaders, responseHeaders } = stream.info;
  for (let i = 0; i < requestHeaders.length; i += 2) {
    if (requestHeaders[i] !== "x-request-id") continue;
    responseHeaders.push("x-request-id", requestHeaders[i + 1]!);
    return;
  }
}

export function appendVia(headers: string[], via: string): void {
  for (let i = 0; i < headers.length; i += 2) {
    if (headers[i] === "via") {
      headers[i + 1] = `${headers[i + 1]!}, ${via}`;
      return;
    }
  }
  headers.push("via", via);
}
