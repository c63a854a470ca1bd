import { describe, expect, test } from "vitest";
import type { ObjectMeta } from "../api/kinds/object.ts";
import { workloadNameOfEntry, workloadNameOfPod } from "./workload-name.ts";

const metadata = (parts: Partial<ObjectMeta>): ObjectMeta => ({
  name: "instance",
  namespace: "shop",
  labels: {},
  annotations: {},
  creationTimestamp: 0,
  uid: "",
  resourceVersion: "",
  generation: 1,
  ...parts,
});

describe("the workload of a WorkloadEntry", () => {
  test("is the WorkloadGroup by which it registered itself, whatever its label says", () => {
    const annotations = { "istio.io/autoRegistrationGroup": "vms" };
    expect(workloadNameOfEntry(metadata({ annotations, labels: { "service.istio.io/workload-name": "labelled" } }))).toBe("vms");
  });

  test("is its label, else its own name, and not its app", () => {
    expect(workloadNameOfEntry(metadata({ labels: { "service.istio.io/workload-name": "labelled", app: "web" } }))).toBe("labelled");
    expect(workloadNameOfEntry(metadata({ labels: { app: "web" } }))).toBe("instance");
  });
});

describe("the workload of a Pod", () => {
  const replicaSet = { apiVersion: "apps/v1", kind: "ReplicaSet", name: "web-5d9c", controller: true };
  const generated = { generateName: "web-5d9c-", ownerReferences: [replicaSet] };

  test("is the Deployment whose ReplicaSet made it", () => {
    expect(workloadNameOfPod(metadata({ ...generated, labels: { "pod-template-hash": "5d9c", app: "other" } }))).toBe("web");
    expect(workloadNameOfPod(metadata({ ...generated, labels: { "rollouts-pod-template-hash": "5d9c" } }))).toBe("web");
  });

  test("is the ReplicaSet itself when no template's hash ends its name", () => {
    expect(workloadNameOfPod(metadata({ ...generated, labels: { "pod-template-hash": "ffff" } }))).toBe("web-5d9c");
  });

  test("is another kind that controls it, and none that only owns it", () => {
    const statefulSet = { kind: "StatefulSet", name: "db", controller: true };
    expect(workloadNameOfPod(metadata({ generateName: "db-", ownerReferences: [{ kind: "Batch", name: "x" }, statefulSet] }))).toBe("db");
    expect(workloadNameOfPod(metadata({ generateName: "db-", ownerReferences: [{ kind: "Batch", name: "x" }] }))).toBe("instance");
  });

  test("is its label first, and its own name when nothing made it", () => {
    expect(workloadNameOfPod(metadata({ ...generated, labels: { "service.istio.io/workload-name": "labelled" } }))).toBe("labelled");
    expect(workloadNameOfPod(metadata({ ownerReferences: [replicaSet] }))).toBe("instance");
  });
});
