# For a program that tells the service manager how it is doing, over a connection that systemd opens for it: Node has no
# datagram sockets. Nothing else in the unit may speak for it.
{
  Type = "notify";
  NotifyAccess = "main";
  OpenFile = "/run/systemd/notify:notify";
  WatchdogSec = "2min";
}
