//! How much memory the container may use: the least limit of its control groups, of version 1 or 2, from its own group up to the mount. Without one it is a share of
//! the machine's memory.
//!
//! A limit can change while the process runs (Kubernetes resizes pods in place), and so can the group. So the files are read again each time.

use std::fs;
use std::path::{Path, PathBuf};

use procfs::process::Process;
use procfs::{Current as _, Meminfo};

/// Without a limit the proxy takes this share of the machine's memory.
const MACHINE_SHARE: u64 = 4;
/// And at most this.
const WITHOUT_LIMIT_MAX: usize = 1 << 30;
/// Version 1 has no word for "no limit", only a number that no machine reaches.
const NO_LIMIT: u64 = 1 << 60;

/// The memory of the container at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Usable {
    /// Bytes that the container may use.
    pub bytes: usize,
    /// Bytes of it that are in the buffers of sockets. Version 1 does not charge the container for them.
    pub sockets: usize,
}

/// The mounts of the control groups that can limit memory.
pub struct Container {
    mounts: Vec<Mount>,
    without_limit: usize,
}

struct Mount {
    /// Where it is mounted.
    point: PathBuf,
    /// The group that is visible there.
    root: PathBuf,
    is_v2: bool,
}

impl Container {
    /// Looks for the mounts.
    pub fn find() -> Container {
        let mounts = Process::myself().and_then(|process| process.mountinfo()).map(|mounts| mounts.0);
        let mounts = mounts.unwrap_or_default().into_iter().filter_map(|mount| {
            let is_v2 = mount.fs_type == "cgroup2";
            let is_v1 = mount.fs_type == "cgroup" && mount.super_options.contains_key("memory");
            (is_v1 || is_v2).then(|| Mount { point: mount.mount_point, root: mount.root.into(), is_v2 })
        });
        let machine = Meminfo::current().map_or(u64::MAX, |info| info.mem_total);
        let without_limit = as_size(machine / MACHINE_SHARE).min(WITHOUT_LIMIT_MAX);
        Container { mounts: mounts.collect(), without_limit }
    }

    /// What the container may use now.
    pub fn usable(&self) -> Usable {
        let groups = Process::myself().and_then(|process| process.cgroups()).map(|groups| groups.0);
        let (mut limit, mut sockets) = (None, 0);
        for group in groups.unwrap_or_default() {
            let is_v2 = group.controllers.is_empty() && group.hierarchy == 0;
            if !is_v2 && !group.controllers.iter().any(|name| name == "memory") {
                continue;
            }
            for mount in self.mounts.iter().filter(|mount| mount.is_v2 == is_v2) {
                let folder = mount.folder(Path::new(&group.pathname));
                limit = limit.into_iter().chain(mount.limit(&folder)).min();
                sockets = sockets.max(mount.sockets(&folder));
            }
        }
        Usable { bytes: limit.map_or(self.without_limit, as_size), sockets }
    }
}

impl Mount {
    /// The folder of `group`. Where the container sees its own group as the root, that is the mount point.
    fn folder(&self, group: &Path) -> PathBuf {
        let below = group.strip_prefix(&self.root).unwrap_or(Path::new(""));
        self.point.join(below.strip_prefix("/").unwrap_or(below))
    }

    /// The least limit from `folder` up to the mount point.
    fn limit(&self, folder: &Path) -> Option<u64> {
        let file = if self.is_v2 { "memory.max" } else { "memory.limit_in_bytes" };
        let folders = folder.ancestors().take_while(|above| above.starts_with(&self.point));
        let limits = folders.filter_map(|folder| fs::read_to_string(folder.join(file)).ok()?.trim().parse().ok());
        limits.filter(|limit| *limit < NO_LIMIT).min()
    }

    fn sockets(&self, folder: &Path) -> usize {
        if !self.is_v2 {
            return 0;
        }
        let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
        let sockets = stat.lines().find_map(|line| line.strip_prefix("sock ")?.trim().parse().ok());
        sockets.map_or(0, as_size)
    }
}

fn as_size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_limit_on_the_way_up_counts() {
        let folder = std::env::temp_dir().join(format!("outrigger-cgroup-{}", std::process::id()));
        let inner = folder.join("pod/container");
        fs::create_dir_all(&inner).expect("a folder");
        let mount = |is_v2| Mount { point: folder.clone(), root: PathBuf::from("/"), is_v2 };
        for (file, is_v2, none) in
            [("memory.max", true, "max"), ("memory.limit_in_bytes", false, "9223372036854771712")]
        {
            let check = |outer: &str, own: &str| {
                fs::write(folder.join("pod").join(file), outer).expect("written");
                fs::write(inner.join(file), own).expect("written");
                mount(is_v2).limit(&mount(is_v2).folder(Path::new("/pod/container")))
            };
            assert_eq!(check(none, "134217728\n"), Some(128 << 20), "{file}");
            assert_eq!(check("67108864\n", "134217728\n"), Some(64 << 20), "{file}: the one above is less");
            assert_eq!(check(none, none), None, "{file}");
        }
        fs::write(inner.join("memory.stat"), "anon 5\nsock 4096\nfile 7\n").expect("written");
        assert_eq!((mount(true).sockets(&inner), mount(false).sockets(&inner)), (4096, 0));
        fs::remove_dir_all(&folder).expect("removed");
    }

    #[test]
    fn a_container_that_sees_its_own_group_as_the_root_reads_it_there() {
        let mount = |root: &str| Mount { point: "/sys/fs/cgroup".into(), root: root.into(), is_v2: true };
        for (root, group, folder) in [
            ("/", "/", "/sys/fs/cgroup"),
            ("/", "/pod/a", "/sys/fs/cgroup/pod/a"),
            ("/docker/7", "/docker/7", "/sys/fs/cgroup"),
            ("/docker/7", "/docker/7/inner", "/sys/fs/cgroup/inner"),
            ("/..", "/", "/sys/fs/cgroup"),
        ] {
            assert_eq!(mount(root).folder(Path::new(group)), PathBuf::from(folder), "{group} below {root}");
        }
    }

    #[test]
    fn this_machine_has_some_memory() {
        let usable = Container::find().usable();
        assert!(usable.bytes > 1 << 20, "{usable:?}");
    }
}
