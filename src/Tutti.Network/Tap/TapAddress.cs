using System.Security.Cryptography;
using System.Text;

namespace Tutti.Network.Tap;

/// <summary>The card's address at a TAP device where the user gives none.</summary>
public static class TapAddress
{
    private const string MachineId = "/etc/machine-id";

    /// <summary>52:54:00, which QEMU made customary for virtual cards.</summary>
    private const ulong Prefix = 0x5254_0000_0000;

    /// <summary>
    /// One address for each device of each host: guests on one bridge must differ, and a guest that comes back is to get its DHCP lease again. 48 bits.
    /// </summary>
    public static ulong For(string device)
    {
        string host;
        try
        {
            host = File.ReadAllText(MachineId).Trim();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            host = Environment.MachineName;
        }

        byte[] hash = SHA256.HashData(Encoding.UTF8.GetBytes($"tutti tap {host} {device}"));
        return Prefix | ((ulong)hash[0] << 16) | ((ulong)hash[1] << 8) | hash[2];
    }
}
