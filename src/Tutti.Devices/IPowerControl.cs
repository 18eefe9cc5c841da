namespace Tutti.Devices;

/// <summary>
/// What a device asks of the machine when the guest switches its power or resets it. Called under the chipset lock, in
/// the middle of a guest access: an implementation notes the wish and returns; the machine acts on it after the access.
/// </summary>
public interface IPowerControl
{
    void PowerOff();

    void Reset();
}
