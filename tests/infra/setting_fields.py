"""The fields of every group of settings that a deployed app reads."""

from shared.settings import AccessSettings, EdxSettings, MappingSettings, StorageSettings, SyncSettings

_GROUPS = (AccessSettings, EdxSettings, MappingSettings, StorageSettings, SyncSettings)
SETTING_FIELDS = [field for group in _GROUPS for field in group.model_fields.values()]
