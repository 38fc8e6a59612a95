"""An account as Terraform would leave it, for who has no Terraform: network, load balancer, listener, cluster, databases."""
import functools

import boto3

REGION = "eu-central-1"
DATABASE = {"MasterUsername": "app", "MasterUserPassword": "correct-horse-battery", "DBName": "app"}


def _client(port, name):
    return boto3.client(name, region_name=REGION, endpoint_url="http://127.0.0.1:%d" % port, aws_access_key_id="test", aws_secret_access_key="test")


@functools.cache
def lay_ground(port):
    """The settings of `runtime: ecs` there."""
    ec2, balancing = _client(port, "ec2"), _client(port, "elbv2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    ec2.modify_vpc_attribute(VpcId=vpc, EnableDnsHostnames={"Value": True})
    subnets = [ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.%d.0/20" % (16 * index), AvailabilityZone=REGION + zone)["Subnet"]["SubnetId"] for index, zone in enumerate("ab")]
    group = ec2.create_security_group(GroupName="tasks", Description="tasks", VpcId=vpc)["GroupId"]
    _client(port, "ecs").create_cluster(clusterName="shipway-test")
    balancer = balancing.create_load_balancer(Name="shipway-test", Subnets=subnets, SecurityGroups=[group])["LoadBalancers"][0]["LoadBalancerArn"]
    listener = balancing.create_listener(
        LoadBalancerArn=balancer, Protocol="HTTP", Port=80, DefaultActions=[{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "404"}}]
    )["Listeners"][0]["ListenerArn"]
    return {
        "region": REGION, "cluster": "shipway-test", "listener": listener, "subnets": subnets, "securityGroups": [group],
        "executionRole": "arn:aws:iam::123456789012:role/shipway-exec-test", "publicIp": False, "exec": False, "scheme": "http",
        "architecture": "x86_64", "storageGiB": 20, "logRetentionDays": 30,
    }


@functools.cache
def lay_backing(port):
    """A MariaDB and a Redis, as the variables that apps get."""
    made = _client(port, "rds").create_db_instance(
        DBInstanceIdentifier="db", Engine="mariadb", EngineVersion="10.11", DBInstanceClass="db.t4g.micro", AllocatedStorage=20, **DATABASE
    )["DBInstance"]["Endpoint"]
    group = _client(port, "elasticache").create_replication_group(
        ReplicationGroupId="cache", ReplicationGroupDescription="cache", Engine="redis", CacheNodeType="cache.t4g.micro", TransitEncryptionEnabled=True
    )["ReplicationGroup"]["NodeGroups"][0]["PrimaryEndpoint"]
    return {
        "DB_URL": "mysql://%s:%s@%s:%d/%s" % (DATABASE["MasterUsername"], DATABASE["MasterUserPassword"], made["Address"], made["Port"], DATABASE["DBName"]),
        "CACHE_URL": "rediss://%s:%d" % (group["Address"], group["Port"]),
    }
