
units="istio-control-plane.service"

# Configuration holds Secrets: for root and the control plane alone.
create_places() {
  system_user istiod /var/lib/istiod
  install -d -m 700 -o istiod -g istiod /var/lib/istiod
  chown root:istiod /etc/istiod/config /etc/istiod/cacerts
  chmod 750 /etc/istiod/config /etc/istiod/cacerts
}

stop_all() {
  ! is_booted || systemctl stop istio-control-plane.service || true
}
