using System.Text;

namespace Tutti.X86.Tests;

public sealed class SoftwareCpuidTests
{
    private static CpuidResult Query(uint leaf, uint subleaf = 0, int processors = 1, uint apicId = 0, ulong cr4 = 0) =>
        SoftwareCpuid.Query(leaf, subleaf, new CpuidContext(apicId, processors, cr4, 3));

    private static string Text(params uint[] words) =>
        Encoding.ASCII.GetString([.. words.SelectMany(BitConverter.GetBytes)]).TrimEnd('\0');

    [Fact]
    public void VendorBrandAndHypervisorReadAsText()
    {
        CpuidResult vendor = Query(0);
        Assert.Equal("AuthenticAMD", Text(vendor.Ebx, vendor.Edx, vendor.Ecx));
        CpuidResult hypervisor = Query(0x4000_0000);
        Assert.Equal("KVMKVMKVM", Text(hypervisor.Ebx, hypervisor.Ecx, hypervisor.Edx));
        CpuidResult brand = Query(0x8000_0002);
        Assert.StartsWith("Tutti Software", Text(brand.Eax, brand.Ebx, brand.Ecx, brand.Edx), StringComparison.Ordinal);
    }

    [Fact]
    public void OsXsaveFollowsCr4()
    {
        Assert.Equal(0u, Query(1).Ecx & (1u << 27));
        Assert.NotEqual(0u, Query(1, cr4: Cr4.OsXsave).Ecx & (1u << 27));
    }

    [Fact]
    public void OsPkeFollowsCr4()
    {
        Assert.Equal(1u << 3, Query(7).Ecx & (3u << 3));
        Assert.Equal(3u << 3, Query(7, cr4: Cr4.ProtectionKeyEnable).Ecx & (3u << 3));
    }

    [Theory]
    [InlineData(1, 0)]
    [InlineData(2, 1)]
    [InlineData(3, 2)]
    [InlineData(8, 3)]
    public void TopologyLeavesAgreeOnTheNumberOfCores(int processors, uint idBits)
    {
        Assert.Equal(idBits, Query(0xB, 1, processors).Eax);
        Assert.Equal((uint)processors, Query(0xB, 1, processors).Ebx);
        Assert.Equal((uint)processors - 1, Query(0x8000_0008, 0, processors).Ecx & 0xFF);
        Assert.Equal(idBits, Query(0x8000_0008, 0, processors).Ecx >> 12);
        Assert.Equal(processors > 1, (Query(1, 0, processors).Edx & (1u << 28)) != 0);
        Assert.Equal(2u, Query(0xB, 1, processors, apicId: 2).Edx);
    }

    [Fact]
    public void TheSizeOfTheXsaveAreaFollowsXcr0()
    {
        Assert.Equal(new(0x207, 576, 2440, 0), Query(0xD));
        Assert.Equal(new(0x207, 2440, 2440, 0), SoftwareCpuid.Query(0xD, 0, new CpuidContext(0, 1, 0, 0x207)));
        Assert.Equal(new(8, 2432, 0, 0), Query(0xD, 9));
        Assert.Equal(new(0x207, 832, 2440, 0), SoftwareCpuid.Query(0xD, 0, new CpuidContext(0, 1, 0, 7)));
        Assert.Equal(new(256, 576, 0, 0), Query(0xD, 2));
    }

    [Theory]
    [InlineData(1, true)]
    [InlineData(3, true)]
    [InlineData(7, true)]
    [InlineData(0x201, true)]
    [InlineData(0x207, true)]
    [InlineData(0x200, false)]
    [InlineData(0, false)]
    [InlineData(2, false)]
    [InlineData(5, false)]
    [InlineData(6, false)]
    [InlineData(0xF, false)]
    public void AvxStateNeedsSseAndX87(ulong xcr0, bool valid) => Assert.Equal(valid, XsaveLayout.IsValid(xcr0, XsaveLayout.Supported));

    [Fact]
    public void ExtensionsThatTheEngineLacksAreNotShown()
    {
        Assert.Equal(0u, Query(7).Ebx & (1u << 16));
        Assert.Equal(0x207u, Query(0xD).Eax);
        Assert.Equal(1u, Query(0xD, 1).Eax);
        Assert.Equal(default, Query(0xD, 3));
        Assert.Equal(default, Query(0x17));
        Assert.Equal(default, Query(0x8000_0022));
    }

    [Fact]
    public void DescriptorFieldsAreWhereTheManualPutsThem()
    {
        var descriptor = new Descriptor(0x12CF_9B34_5678_FFFF);
        Assert.Equal(0x1234_5678u, descriptor.Base);
        Assert.Equal(0xFFFF_FFFFu, descriptor.Limit);
        Assert.Equal(0xC09B, descriptor.Attributes);
        Assert.True(descriptor.IsCode && descriptor.IsReadable && descriptor.Present && descriptor.IsBig && !descriptor.IsLong);
    }
}
