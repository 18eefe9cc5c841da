namespace Tutti.Guest.Tests;

/// <summary>The PCI bus as the stock kernel sees it.</summary>
[Collection("guests")]
public class PciTests
{
    [DebianFact]
    public void The_kernel_finds_the_bus_its_windows_and_its_configuration_space_and_complains_of_nothing()
    {
        using var guest = new GuestSession("--memory", "4G");
        guest.ExpectShell();
        Assert.Contains("0000:00:00.0", guest.Run("ls /sys/bus/pci/devices"), StringComparison.Ordinal);
        Assert.Equal("0x8086 0x1237 0x060000", guest.Run("cd /sys/bus/pci/devices/0000:00:00.0; echo $(cat vendor device class); cd"));

        // 4096 bytes are only there by ECAM.
        Assert.Equal("4096", guest.Run("stat -c %s /sys/bus/pci/devices/0000:00:00.0/config"));
        string iomem = guest.Run("cat /proc/iomem");
        Assert.Matches(@"(?i)e0000000-e00fffff : (PCI )?(ECAM|MMCONFIG)", iomem);
        Assert.Contains("c0000000-dfffffff : PCI Bus 0000:00", iomem, StringComparison.Ordinal);
        Assert.Contains("200000000-9ffffffff : PCI Bus 0000:00", iomem, StringComparison.Ordinal);

        string log = guest.Run("dmesg");
        Assert.Matches("PCI: (ECAM|MMCONFIG)", log);
        Assert.Empty(GuestSession.Complaints(log));
        Assert.DoesNotMatch(@"(?m)^.*(PCI|pci|ACPI|acpi|0000:00:).*([Ee]rror|[Ff]ail|conflict|BAD|can't|not reserved).*$", log);
        guest.Send("poweroff\n");
        Assert.Equal(0, guest.WaitForExit());
    }
}
