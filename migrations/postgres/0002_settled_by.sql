-- What a change that left everything as it was waits for: the last change of the zones that it named. It is served once
-- that is. NULL for a change with an effect, and where no such change is known any more.
ALTER TABLE changes ADD COLUMN settled_by UUID;
