# Where a proxy on this machine reaches what listens on an address and a port.
{ lib }:
address: port:
let
  # Where it listens everywhere, it listens here too.
  host =
    if address == "0.0.0.0" then
      "127.0.0.1"
    else if address == "::" then
      "[::1]"
    else if lib.hasInfix ":" address then
      "[${address}]"
    else
      address;
in
"${host}:${toString port}"
