#!/bin/sh
# What the mesh has to know of an east-west gateway, as YAML for kubectl: its account, the Service by whose address others find it, and a
# WorkloadGroup by which its machine gets its files. The gateway itself is istio-gateway@eastwest on that machine (docs/virtual-machines.md).
set -eu

usage() {
  cat <<USAGE
usage: gen-eastwest-gateway.sh --network NETWORK --address IP[,IP] | kubectl apply -f -
       gen-eastwest-gateway.sh --single-cluster --address IP[,IP]  | kubectl apply -f -

  --network NETWORK   the gateway leads into this network of several
  --single-cluster    there is one network; machines only reach the control plane by the gateway
  --address IP        where other networks reach the gateway, maybe at a load balancer
  --name NAME         of Service, WorkloadGroup and (NAME-service-account) account; give each network's gateway its own
                      (default istio-eastwestgateway, where istioctl looks for the way to the control plane)
  --bind IP           the only address of its machine on which it listens, where the control plane has the ports of others
USAGE
}

fail() {
  printf 'error: %s\n' "$1" >&2
  exit 1
}

# As a whole: grep would look at each line by itself, and no value has a space.
matches() { printf '%s' "$1" | tr '\n' ' ' | LC_ALL=C grep -Eqx "$2"; }

network= single= addresses= name=istio-eastwestgateway bind=
while [ $# -gt 0 ]; do
  case $1 in
    --single-cluster) single=1; shift; continue ;;
    -h | --help) usage; exit ;;
    --ambient) fail '--ambient: there is no ambient mode here' ;;
    --network | --address | --name | --bind | --cluster | --mesh) ;;
    *) fail "$1: no such flag; see --help" ;;
  esac
  [ $# -ge 2 ] || fail "$1: needs a value"
  case $1 in
    --network) network=$2 ;;
    --address) addresses=$2 ;;
    --name) name=$2 ;;
    --bind) bind=$2 ;;
    *) ;; # As in Istio, --cluster and --mesh do nothing.
  esac
  shift 2
done

ip='[0-9A-Fa-f.:]*[0-9A-Fa-f]'
[ -n "$network$single" ] || fail 'give --network NETWORK, or --single-cluster'
[ -z "$network" ] || [ -z "$single" ] || fail '--network and --single-cluster exclude each other'
[ -z "$network" ] || matches "$network" '[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?' || fail "--network \"$network\": is no value of a label"
[ -n "$addresses" ] || fail 'give --address IP, by which other networks reach the gateway'
matches "$addresses" "$ip(,$ip)*" || fail "--address \"$addresses\": is no list of IP addresses"
[ -z "$bind" ] || matches "$bind" "$ip" || fail "--bind \"$bind\": is no IP address"
matches "$name" '[a-z0-9]([-a-z0-9]{0,40}[a-z0-9])?' || fail "--name \"$name\": is no name of lower-case letters, digits and dashes"

labels="app: $name, istio: eastwestgateway${network:+, topology.istio.io/network: \"$network\"}"
# The network view: what comes in for this network is to stay in it.
settings="${network:+\"ISTIO_META_REQUESTED_NETWORK_VIEW\": \"$network\"}"
[ -z "$bind" ] || settings="$settings${settings:+, }\"TOPSAIL_BIND_ADDRESS\": \"$bind\""
cat <<YAML
apiVersion: v1
kind: ServiceAccount
metadata: { name: $name-service-account, namespace: istio-system }
---
apiVersion: v1
kind: Service
metadata:
  name: $name
  namespace: istio-system
  labels: { $labels }
spec:
  type: LoadBalancer
  externalIPs: ["$(printf '%s' "$addresses" | sed 's/,/", "/g')"]
  selector: { $labels }
  ports:
    - { name: status-port, port: 15021, targetPort: 15221 }
    - { name: tls, port: 15443, targetPort: 15443 }
    - { name: tls-istiod, port: 15012, targetPort: 15012 }
    - { name: tls-webhook, port: 15017, targetPort: 15017 }
---
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: { name: $name, namespace: istio-system }
spec:
  metadata:
    labels: { $labels }
    annotations:
      proxy.istio.io/config: '{"proxyMetadata": {$settings}}'
  template: { serviceAccount: $name-service-account${network:+, network: \"$network\"} }
YAML
