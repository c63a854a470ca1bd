import { type Infer, list, map, message, optional, string, uint32 } from "../schema/schema.ts";

const networkEndpointsSchema = message(
  "NetworkEndpoints",
  {
    fromCidr: optional(string()),
    fromRegistry: optional(string()),
  },
  { oneofs: [["fromCidr", "fromRegistry"]] },
);
export type NetworkEndpoints = Infer<typeof networkEndpointsSchema>;

const istioNetworkGatewaySchema = message(
  "IstioNetworkGateway",
  {
    registryServiceName: optional(string()),
    address: optional(string()),
    port: uint32(),
    locality: string(),
  },
  { oneofs: [["registryServiceName", "address"]] },
);
export type IstioNetworkGateway = Infer<typeof istioNetworkGatewaySchema>;

const networkSchema = message("Network", {
  endpoints: list(networkEndpointsSchema),
  gateways: list(istioNetworkGatewaySchema),
});
export type Network = Infer<typeof networkSchema>;

export const meshNetworksSchema = message("MeshNetworks", {
  networks: map(networkSchema),
});
export type MeshNetworks = Infer<typeof meshNetworksSchema>;
