# Stands in for OpenWrt's package.mk: prints what the Makefile says, as lines after a name
# that begins with @@, and has a target install/NAME for each package.
PKG_BUILD_DIR?=$(BUILD_DIR)/$(PKG_NAME)-$(PKG_VERSION)
PKG_ASLR_PIE?=1
PKG_ASLR_PIE_REGULAR?=0

# Every variable that Package/NAME sets is a field, whatever its name.
define BuildPackage
$(eval known:=$(.VARIABLES) known fields)
$(eval $(Package/$(1)))
$(eval fields:=$(sort $(filter-out $(known),$(.VARIABLES))))
$(foreach f,$(fields),$(info @@$(1)/$(f))$(info $($(f)))$(eval undefine $(f)))
$(foreach t,$(filter Package/$(1)/%,$(.VARIABLES)),$(if $(filter %/install,$(t)),,$(info @@$(t:Package/%=%))$(info $($(t)))))
install/$(1):
	$$(call Package/$(1)/install,$$(DESTDIR))
endef

# The macros by their names, and the variables when all has been read.
show:
	$(foreach v,$(sort $(filter Package/% Build/%,$(.VARIABLES))),$(info @@macro $(v)))
	$(foreach v,$(sort $(filter PKG_% GO_PKG GO_PKG_% LUCI_%,$(.VARIABLES))),$(info @@$(v))$(info $($(v))))
	@true

prepare:
	$(Build/Prepare)

.DEFAULT_GOAL:=show
.PHONY: show prepare
