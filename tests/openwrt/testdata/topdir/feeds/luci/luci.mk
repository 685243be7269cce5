# Stands in for luci.mk of LuCI's feed: makes a package of the folders htdocs and root, and one
# of each language in po whose name is known. What a Makefile does not say is LuCI's, as there.
LUCI_NAME?=$(notdir $(CURDIR))
LUCI_BASENAME?=$(LUCI_NAME:luci-app-%=%)
LUCI_SECTION?=luci
LUCI_CATEGORY?=LuCI
LUCI_PKGARCH?=all
LUCI_MAINTAINER?=LuCI
LUCI_URL?=of LuCI
LUCI_MINIFY_CSS?=1

LUCI_LANG.de=Deutsch (German)
LUCI_LANG.ko=한국어 (Korean)

PKG_NAME?=$(LUCI_NAME)
PKG_RELEASE?=1
PKG_PO_VERSION?=26.001.00000~abcdef0
PKG_BUILD_DIR:=$(BUILD_DIR)/$(PKG_NAME)

po2lmo?=po2lmo

include $(INCLUDE_DIR)/package.mk

define Package/$(PKG_NAME)
  SECTION:=$(LUCI_SECTION)
  CATEGORY:=$(LUCI_CATEGORY)
  SUBMENU:=3. Applications
  TITLE:=$(LUCI_TITLE)
  DEPENDS:=$(LUCI_DEPENDS)
  VERSION:=$(PKG_VERSION)-r$(PKG_RELEASE)
  PKGARCH:=$(LUCI_PKGARCH)
  URL:=$(LUCI_URL)
  MAINTAINER:=$(LUCI_MAINTAINER)
endef

define Package/$(PKG_NAME)/description
  $(LUCI_DESCRIPTION)
endef

define Build/Prepare
	mkdir -p $(PKG_BUILD_DIR)
	$(CP) htdocs root $(PKG_BUILD_DIR)/
	$(Build/Prepare/$(LUCI_NAME))
endef

define Package/$(PKG_NAME)/install
	$(INSTALL_DIR) $(1)/www
	$(CP) $(PKG_BUILD_DIR)/htdocs/* $(1)/www/
	$(CP) $(PKG_BUILD_DIR)/root/* $(1)/
endef

# Only if the Makefile has none of its own.
ifndef Package/$(PKG_NAME)/postinst
Package/$(PKG_NAME)/postinst=caches are dropped
endif

# language CODE
define language
  define Package/luci-i18n-$(LUCI_BASENAME)-$(1)
    SECTION:=$(LUCI_SECTION)
    CATEGORY:=$(LUCI_CATEGORY)
    TITLE:=$(PKG_NAME) - $(1) translation
    HIDDEN:=1
    DEPENDS:=$(PKG_NAME)
    VERSION:=$(PKG_PO_VERSION)
    PKGARCH:=all
  endef

  define Package/luci-i18n-$(LUCI_BASENAME)-$(1)/description
    Translation for $(PKG_NAME) - $(LUCI_LANG.$(1))
  endef

  define Package/luci-i18n-$(LUCI_BASENAME)-$(1)/install
	$$(INSTALL_DIR) $$(1)/etc/uci-defaults $$(1)/usr/lib/lua/luci/i18n
	echo "luci.languages.$(1)='$(LUCI_LANG.$(1))'" >$$(1)/etc/uci-defaults/luci-i18n-$(LUCI_BASENAME)-$(1)
	$(foreach f,$(wildcard po/$(1)/*.po),$(po2lmo) $(f) $$(1)/usr/lib/lua/luci/i18n/$(basename $(notdir $(f))).$(1).lmo;)
  endef
endef

languages:=$(foreach l,$(sort $(notdir $(wildcard po/*))),$(if $(LUCI_LANG.$(l)),$(l)))
$(foreach l,$(languages),$(eval $(call language,$(l))))
$(foreach p,$(PKG_NAME) $(languages:%=luci-i18n-$(LUCI_BASENAME)-%),$(eval $(call BuildPackage,$(p))))
