# Stands in for OpenWrt's rules.mk: what openwrt/Makefile uses of it.
INCLUDE_DIR:=$(TOPDIR)/include

CP:=cp -fpR
LN:=ln -sf
INSTALL_BIN:=install -m0755
INSTALL_DIR:=install -d -m0755
INSTALL_DATA:=install -m0644
INSTALL_CONF:=install -m0600
