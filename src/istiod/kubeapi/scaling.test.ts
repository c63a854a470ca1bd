import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type ApiControlPlane, startApiControlPlane } from "../../../test/support/api-control-plane.ts";
import { callApi } from "../../../test/support/kube-api.ts";

const labels = { app: "ratings", version: "v1" };
const pods = "/api/v1/namespaces/default/pods";
const deployments = "/apis/apps/v1/namespaces/default/deployments";
const mergePatch = { "content-type": "application/merge-patch+json" };

describe("a Deployment", () => {
  let plane: ApiControlPlane;

  beforeAll(async () => {
    plane = await startApiControlPlane();
  });
  afterAll(() => plane[Symbol.asyncDispose]());

  const call = (method: string, path: string, body?: unknown, headers = {}) =>
    callApi(plane.config, method, path, body, undefined, headers);
  const endpoints = () => {
    const { registry } = plane.istiod.discovery.context;
    return registry
      .byHost("ratings.default.svc.cluster.local")
      .flatMap((service) => registry.endpoints(service).map(({ address }) => address));
  };
  const statusOf = async () => (await call("GET", `${deployments}/ratings-v1`)).body.status;

  it("counts its pods, loses them as endpoints when it is scaled to none, and has them back afterwards", async () => {
    await call("POST", "/api/v1/namespaces/default/services", {
      metadata: { name: "ratings" },
      spec: { selector: { app: "ratings" }, ports: [{ name: "http", port: 9080 }] },
    });
    const template = { metadata: { labels }, spec: { containers: [{ name: "ratings", image: "ratings:1" }] } };
    await call("POST", deployments, { metadata: { name: "ratings-v1" }, spec: { selector: { matchLabels: labels }, template } });
    await expect.poll(statusOf).toMatchObject({ unavailableReplicas: 1, conditions: [{ type: "Available", status: "False" }] });

    await call("POST", pods, { metadata: { name: "ratings-v1-a", labels }, spec: template.spec });
    await call(
      "PATCH",
      `${pods}/ratings-v1-a/status`,
      { status: { phase: "Running", podIP: "10.0.0.1", conditions: [{ type: "Ready", status: "True" }] } },
      mergePatch,
    );
    await expect.poll(statusOf).toMatchObject({ replicas: 1, readyReplicas: 1, conditions: [{ type: "Available", status: "True" }] });
    await expect.poll(endpoints).toEqual(["10.0.0.1"]);

    const scaled = await call("PATCH", `${deployments}/ratings-v1/scale`, { spec: { replicas: 0 } }, mergePatch);
    expect(scaled).toMatchObject({ code: 200, body: { kind: "Scale", spec: { replicas: 0 } } });
    await expect.poll(endpoints).toEqual([]);
    expect(await call("GET", `${pods}/ratings-v1-a`)).toMatchObject({ code: 200 });
    await call("PUT", `${deployments}/ratings-v1/scale`, { kind: "Scale", apiVersion: "autoscaling/v1", spec: { replicas: 1 } });
    await expect.poll(endpoints).toEqual(["10.0.0.1"]);
  });

  it("refuses a scale that is none", async () => {
    expect(await call("PUT", `${deployments}/ratings-v1/scale`, { kind: "Deployment" })).toMatchObject({ code: 400 });
    expect(await call("PATCH", `${deployments}/ratings-v1/scale`, { spec: { replicas: -1 } }, mergePatch)).toMatchObject({ code: 422 });
    expect(await call("PATCH", `${deployments}/none/scale`, { spec: { replicas: 1 } }, mergePatch)).toMatchObject({ code: 404 });
    expect(await call("PATCH", "/api/v1/namespaces/default/services/ratings/scale", {}, mergePatch)).toMatchObject({ code: 404 });
  });
});
