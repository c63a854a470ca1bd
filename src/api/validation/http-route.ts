import { grpcStatusNumber } from "../grpc-status.ts";
import type {
  CorsPolicy,
  Headers,
  HTTPFaultInjection,
  HTTPMatchRequest,
  HTTPRedirect,
  HTTPRewrite,
  HTTPRoute,
  StringMatch,
} from "../kinds/virtual-service.ts";
import type { FieldReport } from "../schema/field-report.ts";
import { checkDestination, checkGatewayNames, checkTotalWeight } from "./destination.ts";
import { checkHeaderOperations, checkMatchedHeader, isAuthorityHeader, isHeaderName } from "./headers.ts";
import { checkLabels } from "./labels.ts";
import { isDnsLabel } from "./names.ts";
import { checkRetries } from "./retries.ts";
import { checkDuration, checkFractionalPercent, checkPercent, checkPort, checkRegex } from "./scalars.ts";

const largeBodyBytes = 100 * 1024;
const maxBodyBytes = 1024 * 1024;

const corsMethods = new Set(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*"]);

/** `isDelegate`: the VirtualService has no hosts, others delegate to it. */
export function checkHttpRoute(route: HTTPRoute, isDelegate: boolean, report: FieldReport): void {
  checkAction(route, isDelegate, report);
  for (const [index, match] of route.match.entries()) checkHttpMatch(match, report.at("match", index));
  checkHeaderOperations(route.headers, report.at("headers"));
  checkAuthorityOnce(route, report);
  for (const [index, { destination, headers }] of route.route.entries()) {
    if (destination) checkDestination(destination, report.at("route", index, "destination"));
    else report.at("route", index, "destination").error("is missing");
    checkHeaderOperations(headers, report.at("route", index, "headers"));
  }
  checkTotalWeight(route.route, report.at("route"));
  checkCors(route.corsPolicy, report.at("corsPolicy"));
  checkFault(route.fault, report.at("fault"));
  checkMirrors(route, report);
  checkRedirect(route.redirect, route.match, report.at("redirect"));
  checkDirectResponse(route, report.at("directResponse"));
  checkRewrite(route.rewrite, report.at("rewrite"));
  checkRetries(route.retries, report.at("retries"));
  checkDuration(route.timeout, report.at("timeout"));
}

function checkAction(route: HTTPRoute, isDelegate: boolean, report: FieldReport): void {
  if (route.delegate && isDelegate) report.at("delegate").error("what others delegate to can't delegate further");
  if (route.delegate && !isDelegate) {
    if (route.redirect) report.at("redirect").error("can't be given with delegate");
    if (route.route.length > 0) report.at("route").error("can't be given with delegate");
    return;
  }
  for (const action of ["redirect", "directResponse"] as const) {
    if (!route[action]) continue;
    for (const other of ["fault", "rewrite"] as const) {
      if (route[other]) report.at(other).error(`can't be given with ${action}`);
    }
    if (route.route.length > 0) report.at("route").error(`can't be given with ${action}`);
  }
  if (route.redirect && route.directResponse) report.error("only one of redirect and directResponse may be given");
  if (!route.redirect && !route.directResponse && route.route.length === 0) report.error("has no route, redirect or directResponse");
}

function checkHttpMatch(match: HTTPMatchRequest, report: FieldReport): void {
  for (const [name, value] of Object.entries(match.headers)) {
    checkMatchedHeader(name, report.at("headers", name));
    checkStringMatch(value, report.at("headers", name));
  }
  for (const [name, value] of Object.entries(match.withoutHeaders)) {
    checkMatchedHeader(name, report.at("withoutHeaders", name));
    // `*` is no regular expression; it stands for any value.
    if (value.regex !== "*") checkStringMatch(value, report.at("withoutHeaders", name));
  }
  for (const [name, value] of Object.entries(match.queryParams)) checkStringMatch(value, report.at("queryParams", name));
  // An empty prefix of a path matches every path.
  if (match.uri?.prefix !== "") checkStringMatch(match.uri, report.at("uri"));
  for (const field of ["scheme", "method", "authority"] as const) checkStringMatch(match[field], report.at(field));
  if (match.port !== 0) checkPort(match.port, report.at("port"));
  checkLabels(match.sourceLabels, report.at("sourceLabels"));
  checkGatewayNames(match.gateways, report.at("gateways"));
  if (match.sourceNamespace !== "" && !isDnsLabel(match.sourceNamespace)) {
    report.at("sourceNamespace").error(`${JSON.stringify(match.sourceNamespace)} is not a namespace`);
  }
}

/** An empty message matches presence. */
function checkStringMatch(match: StringMatch | undefined, report: FieldReport): void {
  if (match?.prefix === "") report.at("prefix").error("is empty");
  if (match?.regex === "") report.at("regex").error("is empty");
  else if (match?.regex !== undefined) checkRegex(match.regex, report.at("regex"));
}

function checkAuthorityOnce(route: HTTPRoute, report: FieldReport): void {
  const authorities = (headers: Headers | undefined) =>
    (["set", "add"] as const).flatMap((operation) => Object.keys(headers?.request?.[operation] ?? {}).filter(isAuthorityHeader));
  const count = authorities(route.headers).length + (route.rewrite?.authority ? 1 : 0);
  if (count > 1) report.error("the authority is set more than once, by rewrite and by headers");
}

function checkCors(policy: CorsPolicy | undefined, report: FieldReport): void {
  if (!policy) return;
  for (const [index, origin] of policy.allowOrigins.entries()) {
    const place = report.at("allowOrigins", index);
    if (!origin.exact && !origin.prefix && !origin.regex) place.error("is empty: give exact, prefix or regex");
    else if (origin.regex) checkRegex(origin.regex, place.at("regex"));
  }
  for (const [index, method] of policy.allowMethods.entries()) {
    if (!corsMethods.has(method)) report.at("allowMethods", index).error(`${JSON.stringify(method)} is not a method`);
  }
  for (const field of ["allowHeaders", "exposeHeaders"] as const) {
    for (const [index, name] of policy[field].entries()) {
      if (!isHeaderName(name)) report.at(field, index).error(`${JSON.stringify(name)} is not a header's name`);
    }
  }
  checkDuration(policy.maxAge, report.at("maxAge"));
  if ((policy.maxAge ?? 0) % 1000 !== 0) report.at("maxAge").error("must be whole seconds");
}

function checkFault(fault: HTTPFaultInjection | undefined, report: FieldReport): void {
  if (!fault) return;
  const { abort, delay } = fault;
  if (!abort && !delay) report.error("is empty: give abort, delay or both");
  if (abort) {
    const place = report.at("abort");
    checkFractionalPercent(abort.percentage, place.at("percentage"));
    if (abort.http2Error !== undefined) place.at("http2Error").error("is not supported");
    else if (abort.grpcStatus !== undefined) {
      if (grpcStatusNumber(abort.grpcStatus) < 0)
        place.at("grpcStatus").error(`${JSON.stringify(abort.grpcStatus)} is not a gRPC status such as "NOT_FOUND"`);
    } else if (abort.httpStatus !== undefined) checkStatus(abort.httpStatus, place.at("httpStatus"));
    else place.warn("has no status and does nothing: give httpStatus or grpcStatus");
  }
  if (delay) {
    const place = report.at("delay");
    checkFractionalPercent(delay.percentage, place.at("percentage"));
    checkDuration(delay.fixedDelay, place.at("fixedDelay"));
    if (delay.exponentialDelay !== undefined) place.at("exponentialDelay").error("is not supported");
  }
}

function checkStatus(status: number, report: FieldReport): void {
  // Istio's own bound is 600, though its message says 599.
  if (status < 200 || status > 600) report.error(`${status} is not a status: must be between 200 and 599`);
}

function checkMirrors(route: HTTPRoute, report: FieldReport): void {
  if (route.mirror && route.mirrors.length > 0) report.error("only one of mirror and mirrors may be given");
  if (route.mirror) checkDestination(route.mirror, report.at("mirror"));
  for (const [index, { destination, percentage }] of route.mirrors.entries()) {
    const place = report.at("mirrors", index);
    if (destination) checkDestination(destination, place.at("destination"));
    else place.at("destination").error("is missing");
    checkPercent(percentage?.value, place.at("percentage", "value"));
  }
  checkPercent(route.mirrorPercentage?.value, report.at("mirrorPercentage", "value"));
  if (route.mirrorPercent !== undefined) {
    checkPercent(route.mirrorPercent, report.at("mirrorPercent"));
    report.at("mirrorPercent").warn("is deprecated: use mirrorPercentage");
  }
}

function checkRedirect(redirect: HTTPRedirect | undefined, matches: readonly HTTPMatchRequest[], report: FieldReport): void {
  if (!redirect) return;
  const { uri, prefixRewrite, authority, scheme, port, derivePort, redirectCode } = redirect;
  if (uri !== "" && prefixRewrite !== "") report.error("only one of uri and prefixRewrite may be given");
  if (prefixRewrite !== "" && matches.some((match) => match.uri && match.uri.prefix === undefined)) {
    report.at("prefixRewrite").error("needs every match of the path to be by prefix");
  }
  if (uri === "" && prefixRewrite === "" && authority === "" && scheme === "" && port === undefined && derivePort === undefined) {
    report.error("is empty: give uri, prefixRewrite, authority, scheme or port");
  }
  if (redirectCode !== 0 && (redirectCode < 300 || redirectCode > 399))
    report.at("redirectCode").error(`${redirectCode} is not a redirect's status: must be 3xx`);
  if (!["", "http", "https"].includes(scheme)) report.at("scheme").error(`${JSON.stringify(scheme)} is neither http nor https`);
  if (port !== undefined && port > 0) checkPort(port, report.at("port"));
}

function checkDirectResponse({ directResponse }: HTTPRoute, report: FieldReport): void {
  if (!directResponse) return;
  checkStatus(directResponse.status, report.at("status"));
  const { string = "", bytes } = directResponse.body ?? {};
  const size = bytes?.length ?? Buffer.byteLength(string);
  if (size > maxBodyBytes) report.at("body").error("is larger than 1 MiB: every proxy holds it in memory");
  else if (size > largeBodyBytes) report.at("body").warn("is larger than 100 KiB: every proxy holds it in memory");
}

function checkRewrite(rewrite: HTTPRewrite | undefined, report: FieldReport): void {
  if (!rewrite) return;
  const { uri, authority, uriRegexRewrite } = rewrite;
  if (uri !== "" && uriRegexRewrite) report.error("only one of uri and uriRegexRewrite may be given");
  if (uri === "" && authority === "" && !uriRegexRewrite) report.error("is empty: give uri, uriRegexRewrite or authority");
  if (!uriRegexRewrite) return;
  const place = report.at("uriRegexRewrite");
  if (uriRegexRewrite.match === "" || uriRegexRewrite.rewrite === "") place.error("needs both match and rewrite");
  checkRegex(uriRegexRewrite.match, place.at("match"));
}
