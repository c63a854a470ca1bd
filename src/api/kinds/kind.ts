import type { Schema } from "../schema/schema.ts";
import type { KindName } from "./object.ts";

/** A column of `kubectl get`, as Kubernetes' additionalPrinterColumns. */
export interface PrinterColumn {
  readonly name: string;
  readonly type: "string" | "integer" | "date" | "boolean";
  readonly jsonPath: string;
  readonly description: string;
  /** Columns above 0 are shown with `-o wide` only. */
  readonly priority?: number;
}

/** All there is to know about one kind of configuration; each is declared in its own file and listed in index.ts. */
export interface Kind<K extends KindName = KindName, Spec = unknown> {
  readonly kind: K;
  /** "" for Kubernetes' core group. */
  readonly group: string;
  /** Served versions, the preferred one first. */
  readonly versions: readonly [string, ...string[]];
  readonly storageVersion: string;
  readonly plural: string;
  readonly singular: string;
  readonly shortNames: readonly string[];
  readonly categories: readonly string[];
  readonly namespaced: boolean;
  readonly columns: readonly PrinterColumn[];
  readonly schema: Schema<Spec>;
  /**
   * What the schema describes: the `spec` field; the whole object (`root`, a Secret has `data` beside `metadata`); or spec
   * and status taken together, where a reader wants both (a Pod's labels select, its status has the address).
   */
  readonly specAt: "spec" | "root" | "spec+status";
  /** Brings the object as written into the form that Kubernetes would store. */
  readonly normalize?: ((raw: Record<string, unknown>) => Record<string, unknown>) | undefined;
}

export const ageColumn: PrinterColumn = {
  name: "Age",
  type: "date",
  jsonPath: ".metadata.creationTimestamp",
  description: "When the object was made",
};

type IstioKindOptions<K extends KindName, Spec> = Pick<Kind<K, Spec>, "kind" | "group" | "versions" | "plural" | "schema"> & {
  readonly storageVersion?: string;
  readonly shortNames?: readonly string[];
  readonly columns?: readonly PrinterColumn[];
};

/** A kind of Istio's: namespaced, its message in `spec`, in the categories that its CRD names. */
export function defineIstioKind<K extends KindName, Spec>(options: IstioKindOptions<K, Spec>): Kind<K, Spec> {
  const area = options.group.slice(0, options.group.indexOf("."));
  return {
    shortNames: [],
    columns: [ageColumn],
    storageVersion: options.versions[0],
    ...options,
    singular: options.kind.toLowerCase(),
    categories: ["istio-io", `${area}-istio-io`],
    namespaced: true,
    specAt: "spec",
  };
}

type KubernetesKindOptions<K extends KindName, Spec> = Pick<Kind<K, Spec>, "kind" | "group" | "plural" | "schema" | "specAt"> & {
  readonly versions?: readonly [string, ...string[]];
  readonly shortNames?: readonly string[];
  readonly categories?: readonly string[];
  readonly namespaced?: boolean;
  readonly normalize?: Kind<K, Spec>["normalize"];
};

/** A record of Kubernetes' own, read leniently. */
export function defineKubernetesKind<K extends KindName, Spec>(options: KubernetesKindOptions<K, Spec>): Kind<K, Spec> {
  const versions = options.versions ?? (["v1"] as const);
  return {
    shortNames: [],
    categories: [],
    columns: [ageColumn],
    namespaced: true,
    ...options,
    versions,
    storageVersion: versions[0],
    singular: options.kind.toLowerCase(),
  };
}
