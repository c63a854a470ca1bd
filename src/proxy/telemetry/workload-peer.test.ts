import { describe, expect, it } from "vitest";
import { decodePeer, encodePeer, peerFromEndpoint, peerFromMetadata } from "./workload-peer.ts";

/** As a sidecar of Istio 1.23 sent it. */
const ofIstio =
  "ChoKCkNMVVNURVJfSUQSDBoKS3ViZXJuZXRlcwp5CgZMQUJFTFMSbyptCg4KA2FwcBIHGgVodHRwZAoqCh9zZXJ2aWNlLmlzdGlvLmlvL2Nhbm9uaWNhbC1uYW1lEgca" +
  "BWh0dHBkCi8KI3NlcnZpY2UuaXN0aW8uaW8vY2Fub25pY2FsLXJldmlzaW9uEggaBmxhdGVzdAofCgROQU1FEhcaFWh0dHBkLWM2ZDZjYjk0Yi12MjU5ZwoWCglOQU1F" +
  "U1BBQ0USCRoHZGVmYXVsdApJCgVPV05FUhJAGj5rdWJlcm5ldGVzOi8vYXBpcy9hcHBzL3YxL25hbWVzcGFjZXMvZGVmYXVsdC9kZXBsb3ltZW50cy9odHRwZAoYCg1X" +
  "T1JLTE9BRF9OQU1FEgcaBWh0dHBk";

describe("a workload as its peers know it", () => {
  it("is read from what Istio's proxy sends, and written in the same bytes", () => {
    const peer = decodePeer(Buffer.from(ofIstio, "base64"), [])!;
    expect(peer).toEqual({
      instance: "httpd-c6d6cb94b-v259g",
      namespace: "default",
      workload: "httpd",
      cluster: "Kubernetes",
      identity: "",
      canonicalName: "httpd",
      canonicalRevision: "latest",
      app: "httpd",
      version: "",
      type: "deployment",
      region: "",
      zone: "",
      labels: {},
    });
    expect(Buffer.from(encodePeer(peer)).toString("base64")).toBe(ofIstio);
  });

  it("is read from node metadata, where the labels of Kubernetes come before the short ones", () => {
    const labels = {
      app: "short",
      "app.kubernetes.io/name": "long",
      version: "v1",
      "app.kubernetes.io/version": "v2",
      team: "a",
      other: "b",
    };
    const peer = peerFromMetadata({ NAMESPACE: "shop", WORKLOAD_NAME: "web", LABELS: labels }, ["team", "missing"], {
      region: "r",
      zone: "z",
    });
    expect(peer).toMatchObject({ namespace: "shop", workload: "web", app: "long", version: "v2", region: "r", zone: "z" });
    expect(decodePeer(encodePeer(peer), ["team"])).toMatchObject({ app: "long", region: "r", labels: { team: "a" } });
    expect(decodePeer(encodePeer(peer), [])?.labels).toEqual({});
  });

  it("is read from an endpoint's metadata", () => {
    expect(peerFromEndpoint("reviews-v1;default;reviews;v1;Kubernetes")).toMatchObject({
      workload: "reviews-v1",
      namespace: "default",
      canonicalName: "reviews",
      canonicalRevision: "v1",
      cluster: "Kubernetes",
      app: "",
    });
    expect(peerFromEndpoint("reviews-v1;default;reviews;v1")).toBeUndefined();
  });

  it.each([
    ["no Struct", Buffer.from([0xff, 0xff])],
    ["a Struct of other things", Buffer.from("CgoKAWESBRED", "base64")],
    ["nothing", Buffer.alloc(0)],
  ])("is nobody, or knows nothing, when it is %s", (_, bytes) => {
    expect(decodePeer(bytes, [])?.workload ?? "").toBe("");
  });
});
