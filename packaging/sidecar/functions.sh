
units="istio.service istio-gateway@.service"

# Istio's places. Owners and modes of directories only: what is inside is the operator's and the agent's.
create_places() {
  system_user istio-proxy /var/lib/istio
  if [ ! -e /etc/istio ] && [ ! -L /etc/istio ]; then ln -s /var/lib/istio /etc/istio; fi
  install -d -m 755 -o root -g root /var/lib/istio /var/lib/istio-gateway
  # By /etc/istio, which may be a directory that somebody made before.
  install -d -m 755 -o istio-proxy -g istio-proxy /var/lib/istio/envoy /var/lib/istio/data /etc/istio/config /etc/istio/proxy /etc/certs
  install -d -m 750 -o istio-proxy -g istio-proxy /var/log/istio
  if [ ! -e /etc/istio/config/mesh ]; then
    : > /etc/istio/config/mesh
    chown istio-proxy:istio-proxy /etc/istio/config/mesh
  fi
}

# The rules go with the program that knows them.
stop_all() {
  if is_booted; then systemctl stop 'istio-gateway@*.service' istio.service istio-capture.service || true; fi
  if [ -e /run/istio/capture.json ]; then /usr/local/bin/pilot-agent istio-clean-iptables || true; fi
}
