"""What tasks find around them: the load balancer under the names of its rules, and behind the databases and caches that moto only lists, real ones.

The load balancer is reached at port 80 of a container (the door) that hands every connection to its proxy on the host. A DB instance of RDS is a
MariaDB, a replication group of ElastiCache a Redis, each under the name that moto gives it; with encryption in transit it has a certificate of
an authority of this stand-in, in the place of Amazon's, which everybody trusts: tasks get it as a file, and Node.js is told of it.
"""
import inspect
import io
import sys
import tarfile
import threading
import time
import traceback

from moto.core.responses import EmptyResult
from moto.elasticache.models import CacheCluster, ElastiCacheBackend, elasticache_backends
from moto.elasticache.responses import ElastiCacheResponse
from moto.rds.models import rds_backends

from account import lock
from authority import Authority
from targets import listeners

LOOK_SECONDS = 0.5
DOOR_IMAGE = "haproxy:2.6"
DOOR = """
global
  maxconn 2000
defaults
  mode tcp
  timeout connect 10s
  timeout client 120s
  timeout server 120s
listen door
  bind :80
  server balancer %s:%d
"""
TRUST_DIR = "/run/aws-trust"
DATABASE_IMAGES = {"mariadb": "mariadb"}


class Surroundings:
    def __init__(self, fargate):
        self.fargate, self.engine = fargate, fargate.engine
        self.door_ip = None
        self.trust = None
        self.running = {}
        threading.Thread(target=self.watch, daemon=True).start()

    # -- the load balancer

    def open_door(self, port):
        """Port 80 of the network leads to the load balancer's proxy; the first listener has it."""
        if self.door_ip is not None:
            return
        # HAProxy reads no configuration from its arguments.
        body = self.body(DOOR_IMAGE, [], {"CONFIGURATION": DOOR % (self.fargate.gateway, port)})
        body.update({"Entrypoint": ["sh", "-c", 'printf "%s" "$CONFIGURATION" > /tmp/door.cfg && exec haproxy -f /tmp/door.cfg'], "User": "root"})
        name = self.start("door", body)
        self.door_ip = self.engine.call("GET", "/containers/%s/json" % name)["NetworkSettings"]["Networks"][self.fargate.name]["IPAddress"]

    def extra_hosts(self):
        """The names in the listener's rules, as public DNS would have them; of patterns there is no list."""
        if self.door_ip is None:
            return []
        with lock:
            names = {
                value for _, listener in listeners() for rule in listener.rules.values() for condition in rule.conditions
                if condition["Field"] == "host-header" for value in condition["HostHeaderConfig"]["Values"]
            }
        return ["%s:%s" % (name, self.door_ip) for name in sorted(names) if not set(name) & set("*?")]

    # -- databases and caches

    def watch(self):
        while not self.fargate.gate.is_closed:
            try:
                self.look()
            except Exception:
                if not self.fargate.gate.is_closed:
                    traceback.print_exc()
            time.sleep(LOOK_SECONDS)

    def look(self):
        with lock:
            wanted = dict(wanted_databases()) | dict(wanted_caches())
        for name in [one for one in self.running if one not in wanted]:
            self.engine.attempt("DELETE", "/containers/%s" % self.running.pop(name), force=1, v=1)
        for name, make in wanted.items():
            if name not in self.running and not self.fargate.gate.is_closed:
                self.running[name] = make(self)

    def start_database(self, host, engine, version, user, password, database):
        if engine not in DATABASE_IMAGES:
            print("The stand-in has nothing to play %s, a database of %s: it does not answer." % (host, engine), file=sys.stderr)
            return None
        variables = {"USER": user, "PASSWORD": password, "DATABASE": database, "RANDOM_ROOT_PASSWORD": "1"}
        body = self.body("%s:%s" % (DATABASE_IMAGES[engine], version), [], {"MARIADB_%s" % name: value for name, value in variables.items() if value}, host)
        return self.start(host.split(".")[0], body)

    def start_cache(self, host, port, is_encrypted):
        if not is_encrypted:
            return self.start(host.split(".")[1], self.body("redis:7", ["redis-server", "--port", str(port)], {}, host))
        self.trust = self.trust or self.new_trust()
        at = "/etc/redis-tls"
        files = {name: "%s/%s.pem" % (at, name) for name in ("cert", "key", "ca")}
        command = ["redis-server", "--port", "0", "--tls-port", str(port), "--tls-auth-clients", "no",
                   "--tls-cert-file", files["cert"], "--tls-key-file", files["key"], "--tls-ca-cert-file", files["ca"]]
        cert, key = self.trust.issue(host)
        return self.start(host.split(".")[1], self.body("redis:7", command, {}, host, trust=True), {
            "%s/ca.pem" % TRUST_DIR: self.trust.certificate, files["ca"]: self.trust.certificate, files["cert"]: cert, files["key"]: key,
        })

    def new_trust(self):
        with self.fargate.gate:
            self.engine.call("POST", "/volumes/create", {"Name": self.trust_volume, "Labels": self.fargate.labels})
        return Authority("Shipway's stand-in for AWS")

    @property
    def trust_volume(self):
        return "%s-trust" % self.fargate.name

    def trust_of_tasks(self):
        """(mounts, variables) by which a task's container believes what AWS's caches say of themselves."""
        if self.trust is None:
            return [], {}
        mount = {"Type": "volume", "Source": self.trust_volume, "Target": TRUST_DIR, "ReadOnly": True}
        return [mount], {"NODE_EXTRA_CA_CERTS": "%s/ca.pem" % TRUST_DIR}

    # -- containers

    def body(self, image, command, variables, host=None, trust=False):
        body = {
            "Image": image, "Env": ["%s=%s" % one for one in variables.items()], "Labels": self.fargate.labels, "Healthcheck": {"Test": ["NONE"]},
            "HostConfig": {"NetworkMode": self.fargate.name, "Init": True},
            "NetworkingConfig": {"EndpointsConfig": {self.fargate.name: {"Aliases": [host] if host else []}}},
        }
        if trust:
            body["HostConfig"]["Mounts"] = [{"Type": "volume", "Source": self.trust_volume, "Target": TRUST_DIR}]
        return {**body, "Cmd": command} if command else body

    def start(self, name, body, files=None):
        name = "%s-%s" % (self.fargate.name, name)
        with self.fargate.gate:
            self.engine.attempt("DELETE", "/containers/%s" % name, force=1, v=1)
            self.engine.call("POST", "/containers/create", body, name=name)
            if files:
                self.engine.put_archive(name, tar_of(files))
            self.engine.call("POST", "/containers/%s/start" % name)
        return name


def tar_of(files):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for path, text in files.items():
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.size, entry.mode = len(text), 0o644
            tar.addfile(entry, io.BytesIO(text))
    return packed.getvalue()


def wanted_databases():
    for regions in list(rds_backends.values()):
        for backend in list(regions.values()):
            for one in list(backend.databases.values()):
                told = (one.address, one.engine, one.engine_version, one.master_username, one._master_user_password, one.db_name)
                yield one.address, lambda self, told=told: self.start_database(*told)


def wanted_caches():
    for regions in list(elasticache_backends.values()):
        for backend in list(regions.values()):
            for group in [one for one in backend.replication_groups.values() if one.status == "available"]:
                endpoint = group.node_groups[0].get("primary_endpoint")
                if endpoint:
                    told = (endpoint["address"], endpoint["port"], bool(group.transit_encryption_enabled))
                    yield endpoint["address"], lambda self, told=told: self.start_cache(*told)


_create_group = ElastiCacheBackend.create_replication_group
_MEMBER = [name for name in inspect.signature(CacheCluster).parameters if name not in ("account_id", "region_name")]


def create_replication_group(self, *args, **kwargs):
    """moto names a group's members and does not make them; who asks for them by name finds none."""
    group = _create_group(self, *args, **kwargs)
    for name in group.member_clusters:
        told = {one: kwargs.get(one) for one in _MEMBER}
        told.update(cache_cluster_id=name, replication_group_id=group.replication_group_id, num_cache_nodes=1, tags=None)
        self.cache_clusters[name] = CacheCluster(account_id=self.account_id, region_name=self.region_name, **told)
    return group


ElastiCacheBackend.create_replication_group = create_replication_group


_delete_group = ElastiCacheBackend.delete_replication_group


def delete_replication_group(self, replication_group_id, *args, **kwargs):
    """moto leaves a group `deleting` for ever; whoever waits for its end would, too. Its members go with it."""
    members = list(getattr(self.replication_groups.get(replication_group_id), "member_clusters", []))
    group = _delete_group(self, replication_group_id, *args, **kwargs)
    del self.replication_groups[replication_group_id]
    for name in members:
        self.cache_clusters.pop(name, None)
    return group


ElastiCacheBackend.delete_replication_group = delete_replication_group


def delete_cache_subnet_group(self):
    """Moto makes and lists them, and answers 500 to whoever removes one."""
    self.elasticache_backend.cache_subnet_groups.pop(self._get_param("CacheSubnetGroupName"), None)
    return EmptyResult()


ElastiCacheResponse.delete_cache_subnet_group = delete_cache_subnet_group
