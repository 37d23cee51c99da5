# A machine with the documentation's server and worker, booted: everything starts, the proxy leads where it should, and
# the worker is taken without anybody registering it.
{ self }:
{
  name = "gradient-one-machine";

  # The modules bring an overlay, which a machine with packages that are given cannot take.
  node.pkgsReadOnly = false;

  nodes.machine = {
    imports = [
      self.nixosModules.default
      self.nixosModules.gradient-worker
    ];
    virtualisation.memorySize = 2048;
    virtualisation.writableStore = true;
    networking.extraHosts = "127.0.0.1 gradient.example.com";

    # In the store, as no real secret may be: this machine lives for a minute.
    environment.etc."gradient-jwt".text = "0123456789abcdef0123456789abcdef0123456789abcdef";
    environment.etc."gradient-crypt".text = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWYwMTIzNDU2Nzg5YWJjZGVm";

    services.gradient = {
      enable = true;
      configurePostgres = true;
      reverseProxy.nginx.enable = true;
      useTls = false;
      domain = "gradient.example.com";
      jwtSecretFile = "/etc/gradient-jwt";
      cryptSecretFile = "/etc/gradient-crypt";
      state.organizations.acme.created_by = null;
      worker = {
        enable = true;
        serverUrl = "ws://127.0.0.1:3000/proto";
        capabilities = {
          fetch = true;
          eval = true;
          build = true;
          sign = true;
        };
      };
    };
  };

  testScript = ''
    machine.wait_for_unit("gradient-server.service")
    machine.wait_for_unit("gradient-worker.service")
    machine.wait_for_unit("nginx.service")
    machine.wait_for_open_port(3000)

    machine.wait_until_succeeds("curl --fail http://gradient.example.com/api/v1/health")
    machine.succeed("curl --fail http://gradient.example.com/ | grep Gradient")
    machine.succeed("test 404 = $(curl -o /dev/null -w '%{http_code}' http://gradient.example.com/metrics)")
    machine.succeed("test 404 = $(curl -o /dev/null -w '%{http_code}' http://gradient.example.com/internal-storage/x)")

    with subtest("secrets are for those alone who need them"):
        machine.succeed("test 700 = $(stat -c %a /var/lib/gradient-worker-token)")
        machine.fail("sudo -u nginx ls /var/lib/gradient")
        machine.succeed("sudo -u nginx test -x /var/lib/gradient/storage")

    with subtest("the worker is connected, and again to a server that was restarted"):
        connected = "journalctl --unit gradient-worker --grep 'connected to the server' --output cat | wc -l"
        machine.wait_until_succeeds(f"test $({connected}) -ge 1")
        machine.systemctl("restart gradient-server.service")
        machine.wait_until_succeeds(f"test $({connected}) -ge 2")
  '';
}
