/** Where our proxy is meant to answer otherwise than Envoy does, and why. Whoever closes one deletes its entry: an entry without effect fails. */

export interface KnownDifference {
  /** File of bootstrap/ or case of another suite. */
  readonly file: string;
  /** Index of the request, or "log". */
  readonly at: number | string;
  /** Starts with "TODO:" where it should be closed. */
  readonly reason: string;
  /** What of Envoy's outcome, as JSON text, is otherwise in ours; "": all of it. */
  readonly envoy: string;
  readonly topsail: string;
}

export const knownDifferences: readonly KnownDifference[] = [
  {
    file: "proxy-protocol",
    at: "v1, IPv6 with a zone",
    reason: "a zone is an interface of the client's machine; Envoy takes it for one of its own",
    envoy: "",
    topsail: JSON.stringify({ outcome: "reset", seen: [] }),
  },
  { file: "proxy-protocol", at: "stats", reason: "as above", envoy: "proto_error: 53", topsail: "proto_error: 54" },
  { file: "proxy-protocol", at: "stats", reason: "as above", envoy: "proto.versions.v1.error: 25", topsail: "proto.versions.v1.error: 26" },
  { file: "proxy-protocol", at: "stats", reason: "as above", envoy: "proto.versions.v1.found: 24", topsail: "proto.versions.v1.found: 23" },
  {
    file: "direct-response.yaml",
    at: 11,
    reason: "a 204 has no body: what Envoy writes behind it is read as the beginning of the next response",
    envoy: '"content-length: 6",',
    topsail: "",
  },
  { file: "direct-response.yaml", at: 11, reason: "as above", envoy: ',"rest":"hidden"', topsail: "" },
  {
    file: "upstream-oddities.yaml",
    at: 12,
    reason: "no status below 100 exists; Envoy passes 99 on, without an end that its client could see",
    envoy: '"status":"HTTP/1.1 99 Unknown","headers":["x-envoy-upstream-service-time: <ms>"',
    topsail: '"status":"HTTP/1.1 502 Bad Gateway","headers":["content-length: 87","content-type: text/plain"',
  },
  {
    file: "upstream-oddities.yaml",
    at: 12,
    reason: "as above",
    envoy: '"body":"[until the end of the connection]"',
    topsail: '"body":"upstream connect error or disconnect/reset before headers. reset reason: protocol error"',
  },
  {
    file: "rewrite.yaml",
    at: 18,
    reason: "TODO: path_rewrite is newer than the protos that @grpc/grpc-js-xds ships: it is let through and does nothing",
    envoy: "GET /formatted/seg?q=1",
    topsail: "GET /fullre/x?q=1",
  },
  { file: "rewrite.yaml", at: 18, reason: "as above", envoy: "content-length: 28", topsail: "content-length: 23" },
  { file: "rewrite.yaml", at: 18, reason: "as above", envoy: ',"x-envoy-original-path: /fullre/x?q=1"', topsail: "" },
  {
    file: "jwt-places.yaml",
    at: 9,
    reason: "of a query only the token goes; Envoy also sorts what stays",
    envoy: "?b=2&x=1",
    topsail: "?x=1&b=2",
  },
  {
    file: "jwt-places.yaml",
    at: 10,
    reason: "of a query only the token goes; Envoy also decodes what stays, which makes another request of it",
    envoy: "/default?a=/",
    topsail: "/default?a=%2f",
  },
  { file: "jwt-places.yaml", at: 10, reason: "as above", envoy: "content-length: 22", topsail: "content-length: 24" },
  { file: "jwt-places.yaml", at: "log", reason: "as above", envoy: "?b=2&x=1", topsail: "?x=1&b=2" },
  { file: "jwt-places.yaml", at: "log", reason: "as above", envoy: "/default?a=/", topsail: "/default?a=%2f" },
  {
    file: "jwt-keys.yaml",
    at: 18,
    reason: "an HMAC's key is for HMACs: Envoy verifies a token by it whose header says RS256, if the key names no algorithm",
    envoy: "",
    topsail: JSON.stringify({
      outcome: {
        responses: [
          {
            status: "HTTP/1.1 401 Unauthorized",
            headers: [
              'www-authenticate: Bearer realm="http://test.example/algless", error="invalid_token"',
              "content-length: 22",
              "content-type: text/plain",
              "date: <date>",
              "server: envoy",
            ],
            body: "Jwt verification fails",
          },
        ],
        connection: "open",
      },
      seen: [],
    }),
  },
  { file: "jwt-keys.yaml", at: "stats", reason: "as above", envoy: "allowed: 27", topsail: "allowed: 26" },
  { file: "jwt-keys.yaml", at: "stats", reason: "as above", envoy: "denied: 20", topsail: "denied: 21" },
  ...[30, 32, 37].map((at) => ({
    file: "jwt-remote.yaml",
    at,
    reason: "a GET that is tried again has no more of a body than at first; Envoy gives it an empty one, chunked",
    envoy: ',"transfer-encoding: chunked"',
    topsail: "",
  })),
];

/** Envoy's outcome with the differences applied that are known for it. */
export function expectedOf(file: string, at: number | string, outcome: unknown): unknown {
  const applicable = knownDifferences.filter((difference) => difference.file === file && difference.at === at);
  if (applicable.length === 0) return outcome;
  let text = JSON.stringify(outcome);
  for (const { envoy, topsail, reason } of applicable) {
    if (!text.includes(envoy)) throw new Error(`a known difference has no effect any more (${reason}): ${envoy} is not in ${text}`);
    text = envoy === "" ? topsail : text.replaceAll(envoy, topsail);
  }
  return JSON.parse(text);
}
