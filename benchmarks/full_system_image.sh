#!/usr/bin/env bash
# A disk with an arm64 Debian that boots with systemd as PID 1, its kernel and initramfs. Needs root on Debian, with
# mmdebstrap, qemu-user-static (only to be known to apt as arm64's), e2fsprogs, kmod and cpio.
#
#   benchmarks/full_system_image.sh FOLDER    makes FOLDER/{disk.raw,kernel,initramfs,id_ed25519,host_key}
set -euo pipefail

FOLDER=$1
SUITE=bookworm
PACKAGES=base-files,base-passwd,bash,busybox-static,ca-certificates,coreutils,dash,dbus,e2fsprogs,findutils,grep,gzip
PACKAGES+=,hostname,iproute2,kmod,libc-bin,libgomp1,libnss-systemd,libstdc++6,linux-image-cloud-arm64,login,mount
PACKAGES+=,openssh-server,openssh-sftp-server,procps,python3,sed,sudo,systemd,systemd-sysv,tar,udev,util-linux
MODULES=(virtio_pci virtio_blk crc32c_generic ext4)

# --variant=extract runs no foreign code: a minute instead of a quarter of an hour. What the packages' own scripts would
# have done is written by hand; systemd-sysusers makes the system's users at the first boot.
extract() { # ROOT
  mmdebstrap --quiet --arch=arm64 --variant=extract --include="$PACKAGES" \
    --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Languages "none"' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' "$SUITE" "$1"
}

accounts() { # ROOT
  cp "$1/usr/share/base-passwd/passwd.master" "$1/etc/passwd"
  cp "$1/usr/share/base-passwd/group.master" "$1/etc/group"
  printf 'sshd:x:101:65534::/run/sshd:/usr/sbin/nologin\npi:x:1000:1000::/home/pi:/bin/bash\n' >>"$1/etc/passwd"
  printf 'messagebus:x:102:102::/nonexistent:/usr/sbin/nologin\n' >>"$1/etc/passwd"
  printf 'pi:x:1000:\nmessagebus:x:102:\n' >>"$1/etc/group"
  printf '%s\n' 'root:*:19000:0:99999:7:::' 'sshd:!:19000::::::' 'pi:*:19000:0:99999:7:::' >"$1/etc/shadow"
  chmod 600 "$1/etc/shadow"
  install -d -o 1000 -g 1000 "$1/home/pi"
  install -d -m 700 -o 1000 -g 1000 "$1/home/pi/.ssh"
  install -m 600 -o 1000 -g 1000 "$FOLDER/id_ed25519.pub" "$1/home/pi/.ssh/authorized_keys"
  printf 'pi ALL=(ALL) NOPASSWD: ALL\n' >"$1/etc/sudoers.d/pi"
  chmod 440 "$1/etc/sudoers.d/pi"
  local kind
  for kind in auth account password session session-noninteractive; do
    printf '%s required pam_permit.so\n' "${kind%%-*}" >"$1/etc/pam.d/common-$kind"
  done
}

system() { # ROOT
  printf 'passwd: files systemd\ngroup: files systemd\nshadow: files\nhosts: files dns\n' >"$1/etc/nsswitch.conf"
  printf '127.0.0.1 localhost full-system\n' >"$1/etc/hosts"
  echo full-system >"$1/etc/hostname"
  echo '/dev/vda / ext4 rw,relatime 0 1' >"$1/etc/fstab"
  : >"$1/etc/machine-id"
  install -m 600 "$FOLDER/host_key" "$1/etc/ssh/ssh_host_ed25519_key"
  # Through the connection a program learns that this processor is emulated: its times say nothing about a real one
  printf '%s\n' 'HostKey /etc/ssh/ssh_host_ed25519_key' 'UsePAM no' 'UseDNS no' 'PasswordAuthentication no' \
    'Subsystem sftp internal-sftp' 'SetEnv QEMU_CPU=cortex-a72' >"$1/etc/ssh/sshd_config"
  printf '[Match]\nName=en* eth*\n\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\n' \
    >"$1/etc/systemd/network/10-all.network"
  local wants=$1/etc/systemd/system/multi-user.target.wants unit
  mkdir -p "$wants"
  for unit in ssh.service systemd-networkd.service; do ln -sf "/lib/systemd/system/$unit" "$wants/$unit"; done
  ln -sf /lib/systemd/system/multi-user.target "$1/etc/systemd/system/default.target"
  # Of no use here, and slow under emulation
  for unit in systemd-timesyncd.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
    e2scrub_reap.service getty@tty1.service systemd-networkd-wait-online.service fstrim.timer; do
    ln -sf /dev/null "$1/etc/systemd/system/$unit"
  done
  printf 'D /run/sshd 0755 root root\n' >"$1/etc/tmpfiles.d/sshd.conf"
}

# Without it each Python there compiles its library at each start
bytecode() { # ROOT
  local python
  for python in python3.11 /usr/bin/python3.11; do
    if "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
      "$python" -m compileall -q -s "$1" -p / "$1/usr/lib/python3.11" >/dev/null || true
      return
    fi
  done
}

# What finds the disk: the drivers of virtio and ext4, in order, then systemd
initramfs() { # ROOT VERSION
  local tree=$FOLDER/initramfs.d module kind path
  rm -rf "$tree"
  mkdir -p "$tree"/{bin,dev,proc,sys,root,modules}
  cp "$1/bin/busybox" "$tree/bin/busybox"
  depmod -b "$1" "$2"
  {
    printf '#!/bin/busybox sh\nset -e\n/bin/busybox mount -t devtmpfs dev /dev\n'
    for module in "${MODULES[@]}"; do
      modprobe -d "$1" -S "$2" --show-depends "$module" | while read -r kind path _; do
        [ "$kind" = insmod ] || continue # built in
        cp "$path" "$tree/modules/"
        printf '/bin/busybox insmod /modules/%s 2>/dev/null || true\n' "$(basename "$path")"
      done
    done
    printf 'while [ ! -b /dev/vda ]; do /bin/busybox sleep 0.1; done\n'
    printf '/bin/busybox mount -t ext4 /dev/vda /root\n/bin/busybox mount --move /dev /root/dev\n'
    printf 'exec /bin/busybox switch_root /root /lib/systemd/systemd\n'
  } >"$tree/init"
  chmod 755 "$tree/init"
  (cd "$tree" && find . | cpio --quiet -o -H newc | gzip -1) >"$FOLDER/initramfs"
  rm -rf "$tree"
}

[ "$(id -u)" = 0 ] || { echo "error: the image needs root" >&2; exit 3; }
mkdir -p "$FOLDER"
root=$FOLDER/root
for key in id_ed25519 host_key; do
  [ -f "$FOLDER/$key" ] || ssh-keygen -q -t ed25519 -N '' -C edgetool-full-system -f "$FOLDER/$key"
done
if [ ! -d "$root" ]; then
  rm -rf "$root.part"
  extract "$root.part"
  mv "$root.part" "$root"
fi
accounts "$root"
system "$root"
bytecode "$root"
version=$(basename "$root"/lib/modules/*)
cp "$root/boot/vmlinuz-$version" "$FOLDER/kernel"
initramfs "$root" "$version"
rm -rf "${root:?}"/boot/* "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin
rm -f "$FOLDER/disk.raw"
mkfs.ext4 -q -F -d "$root" "$FOLDER/disk.raw" 2G
rm -rf "$root"
