/** `kubectl auth can-i` and `kubectl auth whoami`: what is sent, answered and not stored. */
import { fieldAt, textAt } from "../../api/kinds/raw-fields.ts";
import { isPlainObject } from "../../api/schema/decode.ts";
import { ApiError } from "./status.ts";
import { isAdmin, isAuthenticated, openPaths, type User } from "./users.ts";

interface Review {
  readonly kind: string;
  readonly plural: string;
  readonly answer: (user: User, review: Record<string, unknown>) => Record<string, unknown>;
}

const subjectReview: Review = {
  kind: "SelfSubjectReview",
  plural: "selfsubjectreviews",
  answer: ({ name, groups }) => ({ userInfo: { username: name, groups } }),
};

const accessReview: Review = {
  kind: "SelfSubjectAccessReview",
  plural: "selfsubjectaccessreviews",
  answer: (user, { spec }) => {
    if (isPlainObject(fieldAt(spec, "resourceAttributes")) === isPlainObject(fieldAt(spec, "nonResourceAttributes")))
      throw new ApiError(422, "spec: exactly one of resourceAttributes and nonResourceAttributes must be given");
    if (isAdmin(user)) return { allowed: true };
    const path = textAt(spec, "nonResourceAttributes", "path");
    return { allowed: isAuthenticated(user) && textAt(spec, "nonResourceAttributes", "verb") === "get" && openPaths.test(path) };
  },
};

const rulesReview: Review = {
  kind: "SelfSubjectRulesReview",
  plural: "selfsubjectrulesreviews",
  answer: (user) => ({
    resourceRules: isAdmin(user) ? [{ verbs: ["*"], apiGroups: ["*"], resources: ["*"] }] : [],
    nonResourceRules: isAdmin(user) ? [{ verbs: ["*"], nonResourceURLs: ["*"] }] : [],
    incomplete: false,
  }),
};

/** Group versions that hold nothing but reviews, with their kinds. */
export const reviewGroups: readonly { readonly apiVersion: string; readonly reviews: readonly Review[] }[] = [
  { apiVersion: "authentication.k8s.io/v1", reviews: [subjectReview] },
  { apiVersion: "authorization.k8s.io/v1", reviews: [accessReview, rulesReview] },
];

export function findReview(path: string): { readonly apiVersion: string; readonly review: Review } | undefined {
  for (const { apiVersion, reviews: all } of reviewGroups) {
    const review = all.find(({ plural }) => path === `/apis/${apiVersion}/${plural}`);
    if (review) return { apiVersion, review };
  }
  return undefined;
}

/** Throws ApiError for a body that is no such review. */
export function answerReview(apiVersion: string, review: Review, user: User, body: unknown): Record<string, unknown> {
  if (!isPlainObject(body) || body.kind !== review.kind || body.apiVersion !== apiVersion)
    throw new ApiError(400, `the object is not a ${review.kind} of ${apiVersion}`);
  return {
    kind: review.kind,
    apiVersion,
    metadata: {},
    ...(body.spec === undefined ? {} : { spec: body.spec }),
    status: review.answer(user, body),
  };
}
